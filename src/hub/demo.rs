//! The demo that is built into the program: a small trained model and its SAEs, which are the folder `examples/demo` (its
//! README.md says what they are; `examples/train_demo` made them). To all rooms above it is a folder like any other.

use crate::error::{Error, Kind, Result, nearest};
use crate::formats::Files;
use crate::tensor::Bytes;

/// The bundle, or the folder `below` in it; absent without the feature `demo`.
///
/// # Errors
/// There is no such folder in it.
pub(super) fn files(below: &str) -> Result<Option<impl Files + use<>>> {
    let Some(files) = FILES else { return Ok(None) };
    let below = if below.is_empty() { String::new() } else { format!("{}/", below.trim_matches('/')) };
    if files.iter().any(|(path, _)| path.starts_with(&below)) {
        return Ok(Some(Demo { files, below }));
    }
    let folders = files.iter().filter_map(|(path, _)| path.rsplit_once('/')).map(|(folder, _)| folder);
    let error = Error::new(Kind::Io, "no such folder").file(format!("demo/{}", below.trim_end_matches('/')));
    Err(match nearest(below.trim_end_matches('/'), folders) {
        Some(near) => error.help(format!("the nearest name in the demo is `demo/{near}`")),
        None => error,
    })
}

type File = (&'static str, &'static [u8]);

struct Demo {
    files: &'static [File],
    /// Empty, or a folder with `/` at its end.
    below: String,
}

impl Files for Demo {
    fn name(&self) -> String {
        format!("demo/{}", self.below).trim_end_matches('/').to_string()
    }

    fn list(&self) -> Result<Vec<String>> {
        let inside = self.files.iter().filter_map(|(path, _)| path.strip_prefix(self.below.as_str()));
        let mut paths: Vec<String> = inside.map(str::to_string).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    fn open(&self, path: &str) -> Result<Bytes> {
        match self.files.iter().find(|(name, _)| name.strip_prefix(self.below.as_str()) == Some(path)) {
            Some((_, bytes)) => Ok(Bytes::from_static(bytes)),
            None => Err(Error::new(Kind::Io, "no such file").file(self.path_of(path))),
        }
    }
}

#[cfg(not(feature = "demo"))]
const FILES: Option<&'static [File]> = None;

#[cfg(feature = "demo")]
macro_rules! file {
    ($($part:literal)+) => {
        (concat!($($part),+), include_bytes!(concat!("../../examples/demo/", $($part),+)).as_slice())
    };
}

#[cfg(feature = "demo")]
macro_rules! bundle {
    (model: $($file:literal)+; saes: $($hook:literal)+) => {
        &[
            $(file!("model/" $file),)+
            $(file!("saes/" $hook "/cfg.json"), file!("saes/" $hook "/sae_weights.safetensors"),
              file!("saes/" $hook "/sparsity.safetensors"),)+
        ]
    };
}

#[cfg(feature = "demo")]
const FILES: Option<&'static [File]> = Some(bundle! {
    model:
        "config.json" "generation_config.json" "model.safetensors" "tokenizer.json" "tokenizer_config.json"
        "training.json";
    saes:
        "blocks.0.hook_resid_post" "blocks.0.attn.hook_z" "blocks.0.hook_mlp_out"
        "blocks.1.hook_resid_post" "blocks.1.attn.hook_z" "blocks.1.hook_mlp_out"
        "blocks.2.hook_resid_post" "blocks.2.attn.hook_z" "blocks.2.hook_mlp_out"
        "blocks.3.hook_resid_post" "blocks.3.attn.hook_z" "blocks.3.hook_mlp_out"
        "blocks.4.hook_resid_post" "blocks.4.attn.hook_z" "blocks.4.hook_mlp_out"
});

#[cfg(all(test, feature = "demo"))]
mod tests {
    use super::*;
    use crate::formats::Folder;

    #[test]
    fn it_is_the_folder() {
        let folder = Folder::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo")).unwrap();
        let demo = files("").unwrap().unwrap();
        let mut expected = folder.list().unwrap();
        expected.retain(|path| path != "README.md");
        assert_eq!(demo.list().unwrap(), expected);
        for path in expected {
            assert_eq!(demo.open(&path).unwrap().as_slice(), folder.open(&path).unwrap().as_slice(), "{path}");
        }
        let absent = demo.open("model/absent").err().unwrap().to_string();
        assert!(absent.contains("demo/model/absent"), "{absent}");
        let sae = files("saes/blocks.2.attn.hook_z").unwrap().unwrap();
        assert_eq!((sae.name().as_str(), sae.list().unwrap().len()), ("demo/saes/blocks.2.attn.hook_z", 3));
        assert_eq!(sae.open("cfg.json").unwrap().as_slice()[0], b'{');
        let mistyped = files("saes/blocks.2.attn.hook_v").err().unwrap();
        assert!(mistyped.helps()[0].ends_with("`demo/saes/blocks.2.attn.hook_z`"), "{mistyped:?}");
    }
}
