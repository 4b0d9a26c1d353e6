//! How numbers are written: on axes, in tables, in notes.

/// Text between these is a superscript (private-use characters, which [`super::canvas::clean`] takes out of users' text).
pub(super) const SUPERSCRIPT: char = '\u{E000}';
pub(super) const BASELINE: char = '\u{E001}';

/// A whole number with commas between thousands, from 10,000 on.
pub(super) fn whole(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with a fixed number of decimals, a true minus sign and commas between thousands.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (integer, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(a, b)| (a, b));
    let integer = integer.parse().map_or_else(|_| integer.to_string(), whole);
    let minus = if value < 0.0 && text.chars().any(|c| c.is_ascii_digit() && c != '0') { "−" } else { "" };
    if fraction.is_empty() { format!("{minus}{integer}") } else { format!("{minus}{integer}.{fraction}") }
}

/// 10 to a power, with the power as superscript.
pub(super) fn power(exponent: i32) -> String {
    let minus = if exponent < 0 { "−" } else { "" };
    format!("10{SUPERSCRIPT}{minus}{}{BASELINE}", exponent.unsigned_abs())
}

/// The fewest decimals (at most 12) with which all numbers are written exactly, up to rounding errors of `step`.
fn decimals(values: &[f64], step: f64) -> usize {
    (0..12)
        .find(|d| {
            let factor = 10f64.powi(*d);
            values.iter().all(|v| ((v * factor).round() / factor - v).abs() <= step * 1e-4)
        })
        .unwrap_or(12) as usize
}

/// Labels of evenly spaced ticks.
pub(super) fn ticks(values: &[f64], step: f64) -> Vec<String> {
    let most = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    if most == 0.0 {
        return values.iter().map(|_| "0".to_string()).collect();
    }
    if (1e-4..1e6).contains(&most) && step >= 1e-5 {
        let decimals = decimals(values, step);
        return values.iter().map(|v| fixed(*v, decimals)).collect();
    }
    let exponent = most.log10().floor() as i32;
    // In two steps: 10^308 and 10^-308 are numbers, their inverse products need not be.
    let scaled: Vec<f64> = values.iter().map(|v| v / 10f64.powi(exponent / 2) / 10f64.powi(exponent - exponent / 2)).collect();
    let decimals = decimals(&scaled, step / 10f64.powi(exponent / 2) / 10f64.powi(exponent - exponent / 2));
    let label = |v: &f64| if *v == 0.0 { "0".into() } else { format!("{}×{}", fixed(*v, decimals), power(exponent)) };
    scaled.iter().map(label).collect()
}

/// The label of a tick on a logarithmic axis: plain from 0.001 to 1,000, else a power of ten.
pub(super) fn log_tick(value: f64, plain: bool) -> String {
    let exponent = value.log10().floor() as i32;
    let mantissa = value / 10f64.powi(exponent);
    let (exponent, mantissa) = if mantissa > 9.999 { (exponent + 1, 1.0) } else { (exponent, mantissa) };
    if plain {
        return fixed(value, usize::try_from(-exponent).unwrap_or(0));
    }
    if (mantissa - 1.0).abs() < 1e-6 { power(exponent) } else { format!("{}×{}", fixed(mantissa, 0), power(exponent)) }
}

/// Numbers of a column or tensor for a monospaced terminal: the same decimals for all where their sizes allow (about four
/// significant digits of the largest), else scientific. ASCII minus, so that they can be copied into a script.
pub(super) fn column(values: &[f64]) -> Vec<String> {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let most = finite().fold(0f64, |m, v| m.max(v.abs()));
    let whole = finite().all(|v| v.fract() == 0.0) && most < 1e9;
    let scientific = !(whole || (1e-3..1e6).contains(&most));
    let decimals = if whole { 0 } else { (3 - most.log10().floor() as i32).clamp(1, 6) as usize };
    let smallest = 0.5 * 10f64.powi(-(decimals as i32));
    values
        .iter()
        .map(|v| match v {
            v if v.is_nan() => "NaN".into(),
            v if v.is_infinite() => if *v > 0.0 { "inf" } else { "-inf" }.into(),
            v if scientific || (*v != 0.0 && !whole && v.abs() < smallest) => format!("{v:.3e}"),
            v => {
                let text = format!("{v:.decimals$}");
                // No minus before a zero.
                if text.starts_with('-') && !text.chars().any(|c| ('1'..='9').contains(&c)) { text[1..].into() } else { text }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_the_decimals_they_need() {
        assert_eq!(ticks(&[-0.5, 0.0, 0.5], 0.5), ["−0.5", "0.0", "0.5"]);
        assert_eq!(ticks(&[0.0, 20_000.0], 20_000.0), ["0", "20,000"]);
        assert_eq!(ticks(&[0.0, 2.5e-7], 2.5e-7), ["0".to_string(), format!("2.5×{}", power(-7))]);
        assert_eq!(ticks(&[2e6, 4e6], 2e6)[0], format!("2×{}", power(6)));
        assert_eq!(ticks(&[100.25, 100.5], 0.25), ["100.25", "100.50"]);
        assert_eq!(log_tick(0.01, true), "0.01");
        assert_eq!(log_tick(1e5, false), power(5));
        assert_eq!(log_tick(1000.0, true), "1000");
    }

    #[test]
    fn columns_align_and_show_no_false_zero() {
        assert_eq!(column(&[0.12345, -12.5, 1e-9]), ["0.12", "-12.50", "1.000e-9"]);
        assert_eq!(column(&[3.0, f64::NAN, -0.0]), ["3", "NaN", "0"]);
        assert_eq!(column(&[0.9612, -0.00001]), ["0.9612", "-1.000e-5"]);
        assert_eq!(column(&[1e12, 0.5]), ["1.000e12", "5.000e-1"]);
    }
}
