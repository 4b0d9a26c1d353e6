//! Files: saving any value by its name's extension, reading arrays back.

use crate::dictionary::{Dictionary, Precision, save_sae};
use crate::entry;
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::files;
use crate::formats::{TensorSet, npy, npz, safetensors};
use crate::page::Page;
use crate::provenance::Provenance;
use crate::render;
use crate::script::convert::{describe, type_name, write_json};
use crate::script::declare::{Call, Entry};
use crate::script::pages;
use crate::table::Table;
use crate::tensor::{Bytes, Tensor};
use crate::work::Work;
use rhai::{Dynamic, Map};
use std::path::{Component, Path, PathBuf};

crate::options! {
    /// Options of `save`.
    pub struct SaveOptions {
        /// How an SAE's weights are stored.
        dtype: Precision = Precision::F32,
    }
}

/// Where a name given to `save` (or another call that writes) lies: below the output folder, never outside it.
pub(super) fn place(call: &Call, function: &str, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // `~` would be a folder of that name, which nobody means.
    if !inside || name.is_empty() || name.starts_with('~') {
        return Err(Error::input(format!("{function}: \"{name}\" must be a name below the output folder"))
            .help("results go to out_dir(); choose the folder with `--out DIR`"));
    }
    Ok(call.host.out_dir.join(path))
}

fn unfit(value: &Dynamic, extension: &str, right: &str) -> Error {
    Error::input(format!("save: a {} cannot be saved as .{extension}", type_name(value))).help(format!("save it as {right}"))
}

fn save(call: &Call, value: &Dynamic, path: &Path, options: &SaveOptions) -> Result<()> {
    if let Some(dictionary) = value.read_lock::<Dictionary>() {
        save_sae(&dictionary, path, options.dtype, call.work())?;
        if options.dtype == Precision::F32 {
            call.host.recipes.note_saved(value, path);
        }
        return Ok(());
    }
    let extension = path.extension().map_or_else(String::new, |e| e.to_string_lossy().to_lowercase());
    // Beside how a value itself was made: the script, its parameters and the seed.
    let made = |provenance: Provenance| provenance.with("run", call.host.run());
    if let Some(mut table) = value.read_lock::<Table>().map(|table| table.clone()) {
        table.provenance = made(std::mem::take(&mut table.provenance));
        return table.save(path, call.work());
    }
    if let Some(mut figure) = value.read_lock::<Figure>().map(|figure| figure.clone()) {
        figure.provenance = made(figure.provenance);
        return render::save_figure(&figure, path, call.work());
    }
    if let Some(mut page) = value.read_lock::<Page>().map(|page| page.clone()) {
        page.provenance = made(page.provenance);
        return render::save_page(&pages::with_origin(page, call.host), path, call.work());
    }
    let work = call.work();
    if let Some(tensor) = value.read_lock::<Tensor>().map(|tensor| tensor.clone()) {
        match extension.as_str() {
            "npy" => files::write_detached(path, work, move |out| {
                npy::write_to(&tensor, out).map_err(|e| Error::internal(format!("cannot write a NumPy array: {e}")))
            })?,
            "npz" | "safetensors" => archive(path, &extension, tensors_of(&Map::from([("array".into(), value.clone())]))?, work)?,
            "json" => save_json(value, path, work)?,
            other => return Err(unfit(value, other, ".npy, .npz, .safetensors or .json")),
        }
        return files::write_sidecar(path, &made(Provenance::new("save")));
    }
    if let Some(map) = value.read_lock::<Map>()
        && matches!(extension.as_str(), "npz" | "safetensors")
    {
        archive(path, &extension, tensors_of(&map)?, work)?;
        return files::write_sidecar(path, &made(Provenance::new("save")));
    }
    match extension.as_str() {
        "json" => save_json(value, path, work),
        "md" | "txt" if value.is_string() => files::write_polled(path, work, |out| out.put(value.to_string().as_bytes())),
        other => Err(unfit(
            value,
            other,
            ".json; tables also as .csv or .parquet, tensors as .npy, maps of tensors as .npz or .safetensors, figures as .svg or .png, pages as .html or .md",
        )),
    }
}

/// Writes a `.npz` or `.safetensors` file.
fn archive(path: &Path, extension: &str, tensors: TensorSet, work: &Work) -> Result<()> {
    let write = if extension == "npz" { npz::write_to } else { safetensors::write_to };
    files::write_detached(path, work, move |out| write(&tensors, out))
}

fn tensors_of(map: &Map) -> Result<TensorSet> {
    let mut set = TensorSet::default();
    for (name, value) in map {
        let tensor = value.read_lock::<Tensor>().map(|t| t.clone());
        let tensor = tensor.ok_or_else(|| {
            Error::input(format!("save: `{name}` must be a tensor to go into an array file, not {}", describe(value)))
        })?;
        set.insert(name.as_str(), tensor);
    }
    Ok(set)
}

fn save_json(value: &Dynamic, path: &Path, work: &Work) -> Result<()> {
    let mut nulls = 0;
    files::write_polled(path, work, |out| {
        nulls = write_json(value, out, work)?;
        out.put(b"\n")
    })?;
    if nulls > 0 {
        work.note(&format!("{}: {nulls} NaN or infinite numbers became null", path.display()));
    }
    Ok(())
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Writes a value below the output folder (`out_dir()`), whole or not at all, and gives the file's path. The extension decides: tables `.csv .parquet
            /// .json`, figures `.svg .png`, pages `.html .md .json`, tensors `.npy .npz .safetensors .json`, maps of tensors `.npz .safetensors`, text `.md .txt`, other
            /// values `.json`. An SAE becomes a folder in SAELens's layout. Provenance goes into the file or beside it (`NAME.provenance.json`).
            ///
            /// Errors: an extension that does not fit the value, a name outside the folder, a folder that cannot be written.
            ///
            /// ```rhai
            /// let file = save(tensor([[1.0, 2.0]]), "weights.npy");
            /// assert(load_npy(file).shape == [1, 2]);
            /// ```
            fn save(call, value: Dynamic, name: String; options: SaveOptions) -> String {
                let path = place(call, "save", &name)?;
                save(call, &value, &path, &options)?;
                Ok(path.display().to_string())
            }
        },
        entry! {
            /// The array in a NumPy `.npy` file, in any dtype and order; mapped, not read at once.
            ///
            /// Errors: a file that is not there or cannot be read, or is no such array.
            ///
            /// ```rhai
            /// save(arange(6).reshape([2, 3]), "numbers.npy");
            /// assert(load_npy(out_dir() + "/numbers.npy").sum() == 15);
            /// ```
            fn load_npy(call, path: String) -> Tensor { open(&path, npy::read) }
        },
        entry! {
            /// The arrays in a NumPy `.npz` file: a map from names to tensors.
            ///
            /// Errors: as `load_npy`.
            ///
            /// ```rhai
            /// save(#{ a: ones([2]), b: zeros([3]) }, "pair.npz");
            /// assert(load_npz(out_dir() + "/pair.npz").b.shape == [3]);
            /// ```
            fn load_npz(call, path: String) -> Map {
                Ok(map_of(&open(&path, |bytes, file| npz::read(bytes, file, call.work()))?))
            }
        },
        entry! {
            /// The tensors in a `.safetensors` file: a map from names to tensors. Mapped, not read at once; stored as they are
            /// (bf16 and f16 compute as f32).
            ///
            /// Errors: as `load_npy`.
            ///
            /// ```rhai
            /// save(#{ a: ones([2, 2]) }, "one.safetensors");
            /// assert(load_safetensors(out_dir() + "/one.safetensors").a.sum() == 4.0);
            /// ```
            fn load_safetensors(call, path: String) -> Map { Ok(map_of(&open(&path, safetensors::read)?)) }
        },
    ]
}

fn open<T>(path: &str, read: impl FnOnce(Bytes, &Path) -> Result<T>) -> Result<T> {
    let path = &files::expand_home(path);
    read(Bytes::map(path)?, path)
}

fn map_of(set: &TensorSet) -> Map {
    set.iter().map(|(name, tensor)| (name.into(), Dynamic::from(tensor.clone()))).collect()
}
