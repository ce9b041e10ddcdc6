//! One layer out of many, made beside the running guest, which goes on with the many until the one is there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::frozen::{CopyError, Frozen};
use super::layer::Layer;
use super::sectors::Sectors;

/// Layers to be merged, and where the result is left.
#[derive(Clone, Debug)]
pub(super) struct Merge {
    /// Where the file of the result is made.
    pub(super) directory: PathBuf,
    /// The lowest first, one above the other.
    pub(super) layers: Vec<Arc<Layer>>,
    pub(super) result: Arc<Merged>,
}

/// The place for a result. The overlay looks there when it is at work anyway.
#[derive(Debug, Default)]
pub(super) struct Merged {
    place: Mutex<Option<(Vec<Arc<Layer>>, Layer)>>,
}

impl Merge {
    /// Merges. `frozen` is what these layers are part of.
    pub(super) fn run(&self, frozen: &Frozen, go_on: &dyn Fn() -> bool) -> Result<(), CopyError> {
        let merged = Layer::temporary(&self.directory, frozen.len).map_err(CopyError::Write)?;
        let old = Frozen {
            base: Arc::clone(&frozen.base),
            layers: self.layers.clone(),
            len: frozen.len,
            merge: None,
        };
        // Every run as it is: what lies in a gap may be the image's.
        let runs = old.runs(usize::MAX);
        let sums = old.copy_windows(&runs, &merged.file, go_on)?;
        let mut sectors = Sectors::default();
        runs.into_iter().for_each(|run| sectors.insert(run));
        let layer = Layer::new(merged.file, sectors, sums);
        *self.result.place.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((self.layers.clone(), layer));
        Ok(())
    }
}

impl Merged {
    /// Puts a result in the place of the layers that it was made of, if there is one. Never waits.
    pub(super) fn adopt(&self, layers: &mut Vec<Arc<Layer>>) {
        let Ok(mut place) = self.place.try_lock() else { return };
        let Some((of, layer)) = place.take() else { return };
        let is_same = |(one, other): (&Arc<Layer>, &Arc<Layer>)| Arc::ptr_eq(one, other);
        // It is not if they were merged in another way meanwhile.
        if layers.len() >= of.len() && layers.iter().zip(&of).all(is_same) {
            layers.splice(..of.len(), [Arc::new(layer)]);
        }
    }
}
