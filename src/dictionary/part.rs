//! Parts of dictionaries, and what is known of their features: selecting, joining, statistics, labels.

use super::directions::gather;
use super::{Dictionary, Gate, Inner, Route};
use crate::error::{Error, Result};
use crate::table::{Column, Table};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

impl Dictionary {
    /// The features with these ids, in this order. They keep their ids.
    ///
    /// # Errors
    /// An id that no feature has, or one given twice.
    pub fn select(&self, ids: &[usize], work: &Work) -> Result<Dictionary> {
        let positions = ids.iter().map(|id| self.position(*id)).collect::<Result<Vec<_>>>()?;
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(Error::input("a feature is selected twice").help("name each id once"));
        }
        if ids.is_empty() {
            return Err(Error::input(format!("an empty selection of {}", self.name())));
        }
        let inner = &self.0;
        let vector = |tensor: &Tensor| -> Result<Tensor> {
            let values = tensor.to_f32();
            Ok(Tensor::vector(positions.iter().map(|p| values[*p]).collect()))
        };
        let some = |tensor: &Option<Tensor>| tensor.as_ref().map(vector).transpose();
        let gate = |gate: &Gate| -> Result<Gate> {
            Ok(Gate { b_gate: vector(&gate.b_gate)?, b_mag: vector(&gate.b_mag)?, r_mag: vector(&gate.r_mag)? })
        };
        let mut part = Inner {
            w_enc: inner.w_enc.as_ref().map(|w| Ok::<_, Error>(gather(&w.t(), &positions, work)?.t())).transpose()?,
            w_dec: gather(&inner.w_dec, &positions, work)?,
            b_enc: some(&inner.b_enc)?,
            threshold: some(&inner.threshold)?,
            gate: inner.gate.as_ref().map(gate).transpose()?,
            ids: Some(ids.to_vec()),
            positions: OnceLock::new(),
            stats: inner
                .stats
                .iter()
                .map(|(name, values)| (name.clone(), positions.iter().map(|p| values[*p]).collect()))
                .collect(),
            labels: inner.labels.as_ref().map(|labels| positions.iter().map(|p| labels[*p].clone()).collect()),
            ..Inner::clone(inner)
        };
        part.origin.insert("selected".into(), json!(ids));
        Ok(part.build())
    }

    /// The features of both, one after the other. They keep their ids, unless both have a feature of the same id: then the
    /// result is numbered anew from 0, and says so in `rewrites`.
    ///
    /// # Errors
    /// They stand at different sites or layers, have different widths, or different conventions.
    pub fn concat(&self, other: &Dictionary, work: &Work) -> Result<Dictionary> {
        let (a, b) = (&self.0, &other.0);
        let refuse = |what: &str| {
            let message = format!("{} and {} cannot be joined: they have different {what}", self.name(), other.name());
            Err(Error::input(message).help("join their directions instead: directions(cat([a.write(model), b.write(model)]))"))
        };
        if (a.site, a.layer) != (b.site, b.layer) {
            return refuse("sites");
        }
        if (self.d_in(), self.d_out()) != (other.d_in(), other.d_out()) {
            return refuse("widths");
        }
        let conventions = |d: &Inner| (d.activation, d.subtract_b_dec, d.normalization, d.rescale, d.signed);
        let same = |a: &Option<Tensor>, b: &Option<Tensor>| a.as_ref().map(Tensor::to_f32) == b.as_ref().map(Tensor::to_f32);
        if conventions(a) != conventions(b) || a.w_enc.is_some() != b.w_enc.is_some() || !same(&a.b_dec, &b.b_dec) {
            return refuse("activations, biases or conventions");
        }
        if gain_of(&a.read) != gain_of(&b.read) || gain_of(&a.write) != gain_of(&b.write) {
            return refuse("norm gains");
        }
        let (n, m) = (self.n(), other.n());
        let join = |a: &Tensor, b: &Tensor, dim| Tensor::cat(&[a.clone(), b.clone()], dim, work);
        // A missing vector stands for zeros.
        let vectors = |a: &Option<Tensor>, b: &Option<Tensor>| match (a, b) {
            (None, None) => Ok(None),
            _ => {
                let part = |t: &Option<Tensor>, len| t.as_ref().map_or_else(|| vec![0.0; len], Tensor::to_f32);
                Ok::<_, Error>(Some(Tensor::vector([part(a, n), part(b, m)].concat())))
            }
        };
        let gate = match (&a.gate, &b.gate) {
            (Some(a), Some(b)) => Some(Gate {
                b_gate: join(&a.b_gate, &b.b_gate, 0)?,
                b_mag: join(&a.b_mag, &b.b_mag, 0)?,
                r_mag: join(&a.r_mag, &b.r_mag, 0)?,
            }),
            _ => None,
        };
        let labels = (a.labels.is_some() || b.labels.is_some()).then(|| {
            let part = |d: &Inner, len| d.labels.clone().unwrap_or_else(|| vec![String::new(); len]);
            [part(a, n), part(b, m)].concat()
        });
        let names: BTreeSet<&String> = a.stats.keys().chain(b.stats.keys()).collect();
        let part = |d: &Inner, name: &String, len| d.stats.get(name).cloned().unwrap_or_else(|| vec![f64::NAN; len]);
        let mut ids = [self.ids(), other.ids()].concat();
        let mut rewrites = a.rewrites.clone();
        let mut numbered = a.numbered.max(b.numbered);
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            ids = (0..n + m).collect();
            numbered = n + m;
            rewrites.push(format!("features numbered anew: those of {} begin at {n}", other.name()));
        }
        let mut whole = Inner {
            name: format!("{} + {}", self.name(), other.name()),
            w_enc: match (&a.w_enc, &b.w_enc) {
                (Some(a), Some(b)) => Some(join(a, b, 1)?),
                _ => None,
            },
            w_dec: join(&a.w_dec, &b.w_dec, 0)?,
            b_enc: vectors(&a.b_enc, &b.b_enc)?,
            threshold: vectors(&a.threshold, &b.threshold)?,
            gate,
            ids: Some(ids),
            numbered,
            positions: OnceLock::new(),
            stats: names.into_iter().map(|name| (name.clone(), [part(a, name, n), part(b, name, m)].concat())).collect(),
            labels,
            rewrites,
            warnings: a.warnings.iter().chain(b.warnings.iter().filter(|w| !a.warnings.contains(w))).cloned().collect(),
            ..Inner::clone(a)
        };
        whole.origin = [("joined".to_string(), json!([self.id(), other.id()]))].into_iter().collect();
        Ok(whole.build())
    }

    /// With statistics: a table with a column `feature`; every other column of numbers becomes one (`density`, `mean_act`,
    /// `mean_share`). Features that the table lacks get NaN, rows of other features are left out.
    ///
    /// # Errors
    /// The table has no column `feature` of ids.
    pub fn with_stats(&self, table: &Table) -> Result<Dictionary> {
        let ids = ids_of(table, &["feature"])?;
        let mut inner = Inner::clone(&self.0);
        for (name, column) in table.columns() {
            if let Some(values) = column.numbers().filter(|_| name != "feature") {
                inner.stats.insert(name.clone(), self.by_position(&ids, values, f64::NAN));
            }
        }
        Ok(inner.build())
    }

    /// With labels: a table with a column `feature` (or `index`, as Neuronpedia exports it) and a column `label` (or
    /// `description`).
    ///
    /// # Errors
    /// The table lacks one of them.
    pub fn with_labels(&self, table: &Table) -> Result<Dictionary> {
        let ids = ids_of(table, &["feature", "index"])?;
        let name = find_column(table, &["label", "description"])?;
        let Column::Text(labels) = table.column(name)? else {
            return Err(Error::input(format!("column `{name}` holds no text")));
        };
        let labels = self.by_position(&ids, labels.iter().cloned(), String::new());
        Ok(Inner { labels: Some(labels), ..Inner::clone(&self.0) }.build())
    }

    /// Values of features, put into the order of the positions.
    fn by_position<T: Clone>(&self, ids: &[Option<usize>], values: impl IntoIterator<Item = T>, missing: T) -> Vec<T> {
        let mut out = vec![missing; self.n()];
        for (id, value) in ids.iter().zip(values) {
            if let Some(position) = id.and_then(|id| self.position(id).ok()) {
                out[position] = value;
            }
        }
        out
    }
}

fn gain_of(route: &Route) -> Option<&Vec<f32>> {
    if let Route::Direct { gain } = route { gain.as_ref() } else { None }
}

fn find_column<'a>(table: &Table, names: &[&'a str]) -> Result<&'a str> {
    let found = names.iter().find(|name| table.names().any(|column| column == **name));
    found.copied().ok_or_else(|| {
        let columns: Vec<_> = table.names().collect();
        Error::input(format!("the table has no column `{}`", names.join("` or `")))
            .help(format!("it has: {}", columns.join(", ")))
    })
}

/// The ids in a column of numbers, or of numbers as text; `None` for a cell that is none.
fn ids_of(table: &Table, names: &[&str]) -> Result<Vec<Option<usize>>> {
    let name = find_column(table, names)?;
    match table.column(name)? {
        Column::Text(texts) => Ok(texts.iter().map(|text| text.trim().parse().ok()).collect()),
        column => match column.numbers() {
            Some(numbers) => Ok(numbers.into_iter().map(|v| (v.fract() == 0.0 && v >= 0.0).then_some(v as usize)).collect()),
            None => Err(Error::input(format!("column `{name}` holds no ids"))),
        },
    }
}

impl Inner {
    /// A statistic that the file brings.
    pub(super) fn with_stat(mut self, name: &str, values: Vec<f64>) -> Self {
        self.stats = BTreeMap::from([(name.to_string(), values)]);
        self
    }
}
