//! How a quantity changes with depth: the two-lines test for U shapes (Simonsohn 2018), else a monotone trend.
//!
//! A quadratic fit calls every curve that saturates a U or an inverted U. The two-lines test asks for two slopes of opposite
//! sign, each significant by itself, on both sides of a break point that is chosen by the Robin Hood procedure.

use super::spearman;
use faer::Mat;
use faer::linalg::solvers::DenseSolveCore;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The level at which a slope counts.
const LEVEL: f64 = 0.05;
/// The least number of points for a verdict on two lines, each of which needs two parameters.
const FEWEST: usize = 7;

/// The shape of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Falls, then rises: both slopes significant.
    U,
    /// Rises, then falls: both slopes significant.
    InvertedU,
    /// Rises with x (Spearman).
    Rising,
    /// Falls with x (Spearman).
    Falling,
    /// None of these can be shown.
    None,
}

impl Shape {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Shape::U => "U",
            Shape::InvertedU => "inverted U",
            Shape::Rising => "rising",
            Shape::Falling => "falling",
            Shape::None => "none",
        }
    }
}

/// What [`trend`] found; NaN where the points are too few to ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The verdict.
    pub shape: Shape,
    /// The break between the two lines.
    pub break_at: f64,
    /// Slopes left and right of it.
    pub slopes: [f64; 2],
    /// Their two-sided p-values (ordinary least squares, Student's t with n − 4 degrees of freedom).
    pub p: [f64; 2],
    /// Spearman's rank correlation of y with x.
    pub spearman: f64,
    /// Its two-sided p-value (Student's t with n − 2 degrees of freedom).
    pub spearman_p: f64,
}

/// Names the shape of y over x: a U or an inverted U where the two-lines test shows one, else rising or falling where
/// Spearman's correlation does (both at 5 %). Points that are not finite are left out; with fewer than 7 no U is asked for.
///
/// Break point (Robin Hood): a cubic is fitted; among the x whose fitted values lie within one standard error of the
/// extreme inner one, the median is a first break; the final one is their quantile |t₂| / (|t₁| + |t₂|) of the slopes' t
/// there, so that the weaker line gets more points. Simonsohn fits a spline where we fit a cubic: layers are few.
pub fn trend(x: &[f64], y: &[f64]) -> Trend {
    let (x, y): (Vec<f64>, Vec<f64>) = x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite()).unzip();
    let n = x.len();
    let mut found = Trend {
        shape: Shape::None,
        break_at: f64::NAN,
        slopes: [f64::NAN; 2],
        p: [f64::NAN; 2],
        spearman: spearman(&x, &y),
        spearman_p: f64::NAN,
    };
    if n > 2 {
        let r = found.spearman;
        let t = r * ((n - 2) as f64 / (1.0 - r * r)).sqrt();
        found.spearman_p = if r.abs() >= 1.0 { 0.0 } else { two_sided(t, n - 2) };
    }
    if found.spearman_p < LEVEL {
        found.shape = if found.spearman > 0.0 { Shape::Rising } else { Shape::Falling };
    }
    if n >= FEWEST
        && let Some((break_at, lines)) = robin_hood(&x, &y)
    {
        (found.break_at, found.slopes, found.p) = (break_at, lines.slopes, [0, 1].map(|i| two_sided(lines.t[i], n - 4)));
        if found.p.iter().all(|p| *p < LEVEL) && lines.slopes[0] * lines.slopes[1] < 0.0 {
            found.shape = if lines.slopes[0] < 0.0 { Shape::U } else { Shape::InvertedU };
        }
    }
    found
}

fn two_sided(t: f64, freedom: usize) -> f64 {
    if t.is_nan() {
        return f64::NAN;
    }
    StudentsT::new(0.0, 1.0, freedom as f64).map_or(f64::NAN, |distribution| 2.0 * distribution.sf(t.abs()))
}

/// A least-squares fit of y on the columns of a design.
struct Fit {
    coefficients: Vec<f64>,
    /// Standard errors of the coefficients.
    errors: Vec<f64>,
    fitted: Vec<f64>,
    /// Standard errors of the fitted values.
    fitted_errors: Vec<f64>,
}

/// `None` where the columns depend on one another.
fn least_squares(design: &[Vec<f64>], y: &[f64]) -> Option<Fit> {
    let (n, k) = (y.len(), design.len());
    let x = Mat::from_fn(n, k, |i, j| design[j][i]);
    let normal = x.transpose() * &x;
    let inverse = normal.partial_piv_lu().inverse();
    let b = &inverse * (x.transpose() * Mat::from_fn(n, 1, |i, _| y[i]));
    let fitted = &x * &b;
    let rest: f64 = (0..n).map(|i| (y[i] - fitted[(i, 0)]).powi(2)).sum();
    let variance = rest / (n.checked_sub(k).filter(|free| *free > 0)? as f64);
    let spread = |row: &dyn Fn(usize) -> f64| -> f64 {
        (0..k).flat_map(|a| (0..k).map(move |b| (a, b))).map(|(a, b)| row(a) * inverse[(a, b)] * row(b)).sum()
    };
    let fit = Fit {
        coefficients: (0..k).map(|j| b[(j, 0)]).collect(),
        errors: (0..k).map(|j| (variance * inverse[(j, j)]).sqrt()).collect(),
        fitted: (0..n).map(|i| fitted[(i, 0)]).collect(),
        fitted_errors: (0..n).map(|i| (variance * spread(&|j| x[(i, j)])).sqrt()).collect(),
    };
    fit.coefficients.iter().chain(&fit.errors).all(|v| v.is_finite()).then_some(fit)
}

/// The slopes left and right of a break, with their t.
struct Lines {
    slopes: [f64; 2],
    t: [f64; 2],
}

/// Two lines that need not meet: y on x below the break, x above it, and the step between. `None` where one of them would
/// have fewer than two points.
fn two_lines(x: &[f64], y: &[f64], at: f64) -> Option<Lines> {
    let left = x.iter().filter(|x| **x < at).count();
    if left.min(x.len() - left) < 2 {
        return None;
    }
    let column = |f: &dyn Fn(f64) -> f64| x.iter().map(|x| f(*x)).collect::<Vec<f64>>();
    let design = [
        column(&|_| 1.0),
        column(&|x| if x < at { x - at } else { 0.0 }),
        column(&|x| if x < at { 0.0 } else { x - at }),
        column(&|x| f64::from(x >= at)),
    ];
    let fit = least_squares(&design, y)?;
    let slopes = [fit.coefficients[1], fit.coefficients[2]];
    Some(Lines { slopes, t: [slopes[0] / fit.errors[1], slopes[1] / fit.errors[2]] })
}

fn robin_hood(x: &[f64], y: &[f64]) -> Option<(f64, Lines)> {
    // In units of the range, so that the powers stay apart.
    let (low, high) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let unit: Vec<f64> = x.iter().map(|v| 2.0 * (v - low) / (high - low) - 1.0).collect();
    let power = |p: i32| unit.iter().map(|v| v.powi(p)).collect::<Vec<f64>>();
    let bends_up = least_squares(&[power(0), power(1), power(2)], y)?.coefficients[2] > 0.0;
    let cubic = least_squares(&[power(0), power(1), power(2), power(3)], y)?;
    let height = |i: usize| if bends_up { -cubic.fitted[i] } else { cubic.fitted[i] };
    let inner: Vec<usize> = (0..x.len()).filter(|i| x[*i] > low && x[*i] < high).collect();
    let peak = inner.iter().copied().max_by(|a, b| height(*a).total_cmp(&height(*b)))?;
    let mut flat: Vec<f64> =
        inner.iter().filter(|i| height(**i) >= height(peak) - cubic.fitted_errors[peak]).map(|i| x[*i]).collect();
    flat.sort_by(f64::total_cmp);
    let first = two_lines(x, y, crate::sample::quantile(&flat, 0.5))?;
    let share = first.t[1].abs() / (first.t[0].abs() + first.t[1].abs());
    let at = crate::sample::quantile(&flat, share);
    Some((at, two_lines(x, y, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_named_as_by_an_independent_computation() {
        let reference: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/trend.json")).unwrap();
        let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<f64>>();
        for (name, case) in reference.as_object().unwrap() {
            let found = trend(&numbers(&case["x"]), &numbers(&case["y"]));
            assert_eq!(found.shape.name(), case["shape"], "{name}");
            let close = |got: f64, key: &str| match case[key].as_f64() {
                Some(want) => assert!((got - want).abs() <= 1e-7 * want.abs().max(1e-3), "{name}, {key}: {got}, not {want}"),
                None => assert!(got.is_nan(), "{name}, {key}: {got}, not NaN"),
            };
            close(found.break_at, "break_at");
            close(found.slopes[0], "slope_left");
            close(found.slopes[1], "slope_right");
            close(found.p[0], "p_left");
            close(found.p[1], "p_right");
            close(found.spearman, "spearman");
            close(found.spearman_p, "spearman_p");
        }
    }

    #[test]
    fn few_and_constant_points_have_no_shape() {
        for y in [vec![], vec![1.0], vec![2.0; 12]] {
            let x: Vec<f64> = (0..y.len()).map(|i| i as f64).collect();
            assert_eq!(trend(&x, &y).shape, Shape::None);
        }
    }
}
