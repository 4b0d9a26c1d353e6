//! Colours: told apart by colour-blind readers, and in print.

use plotters::style::RGBAColor;

pub(super) type Color = RGBAColor;

pub(super) const fn opaque(hex: u32) -> Color {
    RGBAColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8, 1.0)
}

pub(super) fn faded(color: Color, alpha: f64) -> Color {
    RGBAColor(color.0, color.1, color.2, color.3 * alpha)
}

pub(super) const WHITE: Color = opaque(0xffffff);
pub(super) const INK: Color = opaque(0x222222);
pub(super) const SOFT_INK: Color = opaque(0x4d4d4d);
pub(super) const GRID: Color = opaque(0xe4e4e4);
/// Cells without a number.
pub(super) const MISSING: Color = opaque(0xd0d0d0);

/// Okabe and Ito's colours without yellow, which does not show on white; grey last.
const SERIES: [u32; 8] = [0x0072b2, 0xe69f00, 0x009e73, 0xd55e00, 0xcc79a7, 0x56b4e9, 0x000000, 0x7f7f7f];

/// Ten steps of matplotlib's viridis.
const VIRIDIS: [u32; 10] = [0x440154, 0x482878, 0x3e4989, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6ece58, 0xb5de2b, 0xfde725];
/// ColorBrewer's RdBu, from blue to red.
const BLUE_RED: [u32; 11] =
    [0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d, 0xb2182b, 0x67001f];
const GREYS: [u32; 2] = [0xffffff, 0x000000];

/// The colour of series `i` of `n`: of a palette while its colours last, then along viridis, so that series in a natural
/// order (layers) stay in order.
pub(super) fn series(i: usize, n: usize) -> Color {
    if n <= SERIES.len() { opaque(SERIES[i % SERIES.len()]) } else { Ramp::Sequential.at(0.9 * i as f64 / (n - 1) as f64) }
}

/// How a share from 0 to 1 becomes a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ramp {
    Sequential,
    Diverging,
    Grey,
}

impl Ramp {
    pub(super) fn at(self, share: f64) -> Color {
        let stops: &[u32] = match self {
            Ramp::Sequential => &VIRIDIS,
            Ramp::Diverging => &BLUE_RED,
            Ramp::Grey => &GREYS,
        };
        let at = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let below = (at.floor() as usize).min(stops.len() - 2);
        let (a, b) = (opaque(stops[below]), opaque(stops[below + 1]));
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * (at - below as f64)).round() as u8;
        RGBAColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2), 1.0)
    }
}
