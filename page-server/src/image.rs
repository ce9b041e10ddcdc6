//! What is served.

use std::sync::Arc;

use snapshot_format::working_set::WorkingSet;

use crate::source::PageSource;

/// One image.
#[derive(Debug)]
pub struct Served {
    id: Option<[u8; 16]>,
    source: Arc<dyn PageSource>,
    working_set: Option<WorkingSet>,
}

impl Served {
    /// Put together.
    pub fn new(id: Option<[u8; 16]>, source: Arc<dyn PageSource>, working_set: Option<WorkingSet>) -> Self {
        Self { id, source, working_set }
    }

    /// Its id.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.id
    }

    /// Its memory.
    pub fn source(&self) -> &Arc<dyn PageSource> {
        &self.source
    }

    /// What guests touch first.
    pub fn working_set(&self) -> Option<&WorkingSet> {
        self.working_set.as_ref()
    }
}
