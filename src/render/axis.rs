//! Scales and ticks.

use super::number;
use crate::figure::Axis;

/// What an axis shows.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Numbers from `from` to `to`; `whole` keeps ticks on whole numbers.
    Numbers { from: f64, to: f64, log: bool, whole: bool },
    /// Names at 0, 1, 2, ….
    Names(Vec<String>),
}

impl Kind {
    /// The axis of these numbers, all of which it can show ([`Axis::shows`]), with a little room at the ends unless the
    /// options set them.
    pub(super) fn of(numbers: impl IntoIterator<Item = f64>, axis: Axis, room: f64) -> Kind {
        let (mut least, mut most, mut whole) = (f64::INFINITY, f64::NEG_INFINITY, true);
        for number in numbers {
            least = least.min(number);
            most = most.max(number);
            whole &= number.fract() == 0.0;
        }
        if least > most {
            (least, most) = if axis.log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        let (from, to) = axis.limits.unwrap_or_else(|| {
            let (from, to) = (axis.place(least), axis.place(most));
            let span = to - from;
            let pad = if span > from.abs().max(to.abs()) * 1e-12 {
                room * span
            } else if axis.log {
                0.5
            } else {
                (from.abs() * 0.1).max(0.5)
            };
            // Beyond this the ends of a logarithmic axis would be 0 or infinite.
            let end = |place: f64| axis.value(if axis.log { place.clamp(-305.0, 305.0) } else { place });
            (end(from - pad), end(to + pad))
        });
        Kind::Numbers { from, to, log: axis.log, whole: whole && !axis.log }
    }

    /// The same axis with ticks wherever they are round: the numbers are whole by accident.
    pub(super) fn fractional(self) -> Kind {
        match self {
            Kind::Numbers { from, to, log, .. } => Kind::Numbers { from, to, log, whole: false },
            names => names,
        }
    }

    /// The numbers at its ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        match self {
            Kind::Numbers { from, to, .. } => (*from, *to),
            Kind::Names(names) => (-0.5, names.len().max(1) as f64 - 0.5),
        }
    }

    /// Ticks with labels, at most about `most` of them, and minor ticks.
    pub(super) fn ticks(&self, most: usize) -> Ticks {
        match self {
            Kind::Names(names) => Ticks {
                major: names.iter().enumerate().map(|(i, name)| (i as f64, super::canvas::clean(name))).collect(),
                minor: Vec::new(),
            },
            Kind::Numbers { from, to, log: false, whole } => {
                // Round steps may leave a single tick, which gives no scale: then rather a few more.
                let finer = (most..most + 6).map(|most| linear(*from, *to, most, *whole));
                let enough = finer.into_iter().find(|ticks| ticks.major.len() >= 2);
                enough.unwrap_or_else(|| linear(*from, *to, most, *whole))
            }
            Kind::Numbers { from, to, .. } => logarithmic(*from, *to, most),
        }
    }
}

/// Where ticks stand and what is written there.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticks {
    pub(super) major: Vec<(f64, String)>,
    pub(super) minor: Vec<f64>,
}

fn linear(from: f64, to: f64, most: usize, whole: bool) -> Ticks {
    let rough = (to - from) / most.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|f| f * magnitude >= rough * 0.9999).unwrap_or(10.0);
    let mut step = factor * magnitude;
    if whole {
        step = if step < 1.0 {
            1.0
        } else if factor == 2.5 && step < 10.0 {
            5.0
        } else {
            step
        };
    }
    let slack = step * 1e-6;
    let (first, last) = (((from - slack) / step).ceil(), ((to + slack) / step).floor());
    let count = (last - first).clamp(-1.0, 100.0) as i64;
    // Adding 0 turns minus zero into zero.
    let values: Vec<f64> = (0..=count).map(|i| (first + i as f64) * step + 0.0).collect();
    let labels = number::ticks(&values, step);
    Ticks { major: values.into_iter().zip(labels).collect(), minor: Vec::new() }
}

fn logarithmic(from: f64, to: f64, most: usize) -> Ticks {
    let (low, high) = (from.log10(), to.log10());
    let (first, last) = ((low - 1e-9).ceil() as i32, (high + 1e-9).floor() as i32);
    let decades = last - first + 1;
    if decades < 2 {
        return within_a_decade(from, to, most);
    }
    let stride = (decades as usize).div_ceil(most.max(2)).max(1) as i32;
    let plain = first >= -3 && last <= 3;
    let major: Vec<(f64, String)> = (first..=last)
        .filter(|e| e.rem_euclid(stride) == 0)
        .map(|e| (10f64.powi(e), number::log_tick(10f64.powi(e), plain)))
        .collect();
    let minor = if stride == 1 {
        (first - 1..=last)
            .flat_map(|e| (2..10).map(move |m| f64::from(m) * 10f64.powi(e)))
            .filter(|v| (from..=to).contains(v))
            .collect()
    } else {
        (first..=last).filter(|e| e.rem_euclid(stride) != 0).map(|e| 10f64.powi(e)).collect()
    };
    Ticks { major, minor }
}

/// Less than two powers of ten are in sight: 1, 2, 5, or evenly spaced ticks where even those are too few.
fn within_a_decade(from: f64, to: f64, most: usize) -> Ticks {
    let exponents = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let values: Vec<f64> = exponents
        .flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)))
        .filter(|v| (from * (1.0 - 1e-9)..=to * (1.0 + 1e-9)).contains(v))
        .collect();
    if values.len() < 3 {
        return linear(from, to, most, false);
    }
    let plain = values.iter().all(|v| (1e-3..1e5).contains(v));
    Ticks { major: values.into_iter().map(|v| (v, number::log_tick(v, plain))).collect(), minor: Vec::new() }
}

/// Numbers to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    axis: Axis,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// `from` lies at pixel `start`, `to` at pixel `end`.
    pub(super) fn new(kind: &Kind, start: f64, end: f64) -> Self {
        let (from, to) = kind.ends();
        let axis = Axis { log: matches!(kind, Kind::Numbers { log: true, .. }), limits: None };
        Scale { axis, from: axis.place(from), to: axis.place(to), start, end }
    }

    /// The pixel of a number; far beyond an end just outside it, so that what is cut off stays drawable.
    pub(super) fn at(&self, value: f64) -> f64 {
        let place = if self.axis.log { value.max(1e-300).log10() } else { value };
        let share = (place - self.from) / (self.to - self.from);
        self.start + share.clamp(-1000.0, 1000.0) * (self.end - self.start)
    }

    /// The pixel where the axis begins.
    pub(super) fn start(&self) -> f64 {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kind: &Kind, most: usize) -> Vec<String> {
        kind.ticks(most).major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let kind = |from, to, log, whole| Kind::Numbers { from, to, log, whole };
        assert_eq!(labels(&kind(-0.93, 1.04, false, false), 5), ["−0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels(&kind(-0.5, 3.5, false, true), 9), ["0", "1", "2", "3"]);
        assert_eq!(labels(&kind(0.5, 2000.0, true, false), 6), ["1", "10", "100", "1000"]);
        assert_eq!(labels(&kind(2.0, 60.0, true, false), 6), ["2", "5", "10", "20", "50"]);
        assert_eq!(labels(&kind(1e-9, 1e3, true, false), 5).len(), 5);
        assert_eq!(labels(&kind(3.1, 3.3, true, false), 5), ["3.10", "3.15", "3.20", "3.25", "3.30"]);
    }

    #[test]
    fn scales_place_the_ends_and_survive_constants() {
        let kind = Kind::of([5.0, 5.0], Axis::default(), 0.05);
        let scale = Scale::new(&kind, 100.0, 0.0);
        assert_eq!(scale.at(5.0), 50.0);
        let log = Scale::new(&Kind::of([1.0, 100.0], Axis { log: true, limits: None }, 0.0), 0.0, 10.0);
        assert!((log.at(10.0) - 5.0).abs() < 1e-9 && log.at(0.0).is_finite());
    }
}
