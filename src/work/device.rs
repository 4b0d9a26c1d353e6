//! The device that makes the products of a session: the kernel of `compute` on the CPU, or what an optional feature of the
//! build brings, by way of candle.

use super::Work;
use crate::error::{Error, Result};
use candle_core::Device;

/// A device beside `cpu`: its name, whether `auto` takes it, whether this build has it, the features that bring it and how it is
/// opened.
struct Choice {
    name: &'static str,
    auto: bool,
    built: bool,
    features: &'static str,
    open: fn() -> candle_core::Result<Device>,
}

/// In the order in which `auto` tries them. MKL, where it was timed, made half as many products a second as our kernel: it is
/// taken by name alone.
const CHOICES: [Choice; 3] = [
    Choice { name: "cuda", auto: true, built: cfg!(feature = "cuda"), features: "cuda", open: || Device::new_cuda(0) },
    Choice { name: "metal", auto: true, built: cfg!(feature = "metal"), features: "metal", open: || Device::new_metal(0) },
    Choice {
        name: "blas",
        auto: false,
        built: cfg!(any(feature = "mkl", feature = "accelerate")),
        features: "mkl` or `accelerate",
        open: || Ok(Device::Cpu),
    },
];

impl Work {
    /// Chooses the device by name, once for a session: `cpu` is the kernel of this program, `cuda`, `metal` and `blas` (MKL or
    /// Accelerate) need a feature of the build, `auto` is the first GPU that the build has and the machine opens, with a note where it
    /// does not, else `cpu`.
    ///
    /// # Errors
    /// No such name, a device that this build has not or that cannot be opened, or a second choice.
    pub fn choose_device(&self, name: &str) -> Result<()> {
        self.choose_among(&CHOICES, name)
    }

    fn choose_among(&self, choices: &[Choice], name: &str) -> Result<()> {
        match choices.iter().find(|choice| choice.name == name) {
            _ if name == "cpu" => Ok(()),
            _ if name == "auto" => {
                for Choice { name, open, .. } in choices.iter().filter(|choice| choice.auto && choice.built) {
                    match open() {
                        Ok(device) => return self.use_device(device),
                        Err(error) => self.note(&format!("{name} is not to be had, products are made without it: {error}")),
                    }
                }
                Ok(())
            }
            None => Err(Error::input(format!("unknown device `{name}`")).help("there are auto, cpu, blas, cuda and metal")),
            Some(Choice { built: false, features, .. }) => Err(Error::input(format!("this build has no device `{name}`"))
                .help(format!("build with the feature `{features}`; `cpu` is always there"))),
            Some(Choice { open, .. }) => self.use_device(
                open()
                    .map_err(|error| Error::limit(format!("{name} is not to be had: {error}")).help("`cpu` is always there"))?,
            ),
        }
    }

    /// Has candle make the products of this session on `device`. Results agree with those of the kernel within rounding.
    ///
    /// # Errors
    /// The session has a device already.
    pub fn use_device(&self, device: Device) -> Result<()> {
        self.inner.device.set(device).map_err(|_| Error::input("the device of a session is chosen once"))
    }

    /// Where candle makes products; nothing where the kernel of this program does.
    pub fn device(&self) -> Option<&Device> {
        self.inner.device.get()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Heard;
    use super::*;

    #[test]
    fn a_device_is_chosen_once_and_by_a_name_that_exists() {
        let work = Work::silent(1).unwrap();
        work.choose_device("cpu").unwrap();
        assert!(work.device().is_none());
        assert_eq!(work.choose_device("tpu").unwrap_err().message(), "unknown device `tpu`");
        for choice in CHOICES.iter().filter(|choice| !choice.built) {
            let error = work.choose_device(choice.name).unwrap_err();
            assert!(error.message().contains("this build has no device") && error.helps()[0].contains(choice.features));
        }
        let work = Work::silent(1).unwrap();
        work.use_device(Device::Cpu).unwrap();
        assert!(work.device().is_some_and(Device::is_cpu));
        assert!(work.use_device(Device::Cpu).is_err());
    }

    #[test]
    fn what_cannot_be_opened_is_passed_over_with_a_note_and_refused_by_name() {
        let gone = || Err(candle_core::Error::Msg("no driver".into()));
        let choices = [
            Choice { name: "absent", auto: true, built: false, features: "absent", open: || Ok(Device::Cpu) },
            Choice { name: "gone", auto: true, built: true, features: "gone", open: gone },
            Choice { name: "asked", auto: false, built: true, features: "asked", open: || Ok(Device::Cpu) },
            Choice { name: "there", auto: true, built: true, features: "there", open: || Ok(Device::Cpu) },
        ];
        let heard = Heard::default();
        let (without, with) = (heard.work(1), heard.work(1));
        without.choose_among(&choices[..3], "auto").unwrap();
        assert!(without.device().is_none());
        assert_eq!(heard.take(), ["gone is not to be had, products are made without it: no driver"]);
        assert_eq!(without.choose_among(&choices, "gone").unwrap_err().message(), "gone is not to be had: no driver");
        with.choose_among(&choices, "auto").unwrap();
        assert!(with.device().is_some_and(Device::is_cpu));
    }
}
