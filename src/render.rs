//! Tables and figures to text, SVG and PNG.
