//! What a name on the command line can mean: a model or an SAE.

use crate::Result;
use crate::dictionary::{Dictionary, SaeOptions, load_sae_from};
use crate::hub::Place;
use crate::model::Model;
use crate::work::Work;

pub(super) enum Thing {
    Model(Model),
    Sae(Dictionary),
}

impl Thing {
    /// What has a path inside it is an SAE; anything else is a model, or an SAE if it cannot be read as a model.
    pub(super) fn open(place: &Place, name: &str, path: Option<&str>, work: &Work) -> Result<Self> {
        let sae = || load_sae_from(place, name, path, &SaeOptions::default(), work).map(Thing::Sae);
        if path.is_some() {
            return sae();
        }
        Model::load_from(place).map(Thing::Model).or_else(|no_model| match sae() {
            Err(no_sae) if no_sae.is_interrupted() || no_model.is_interrupted() => Err(no_sae),
            Err(no_sae) => Err(no_model.help(format!("nor is it an SAE: {no_sae}"))),
            sae => sae,
        })
    }
}
