//! What is served where: what was typed, and what a file lists, read again when it is asked for.

#[cfg(test)]
#[path = "catalogue_test.rs"]
mod catalogue_test;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use page_server::access::Access;
use page_server::endpoint::Endpoint;
use page_server::image::{self, Identity, Served};
use page_server::socket::Socket;

use super::list::{self, Entry};

/// A socket, and the image that is served there; without one, all those that are not bound to a socket are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) socket: PathBuf,
    pub(super) image: Option<PathBuf>,
}

/// What makes no sense together.
#[derive(Debug, thiserror::Error)]
pub(super) enum Contradiction {
    /// Nothing to listen on.
    #[error("there is no --socket")]
    Nowhere,
    /// Images, and no socket for them.
    #[error("no --socket without an image of its own is there for `{}`", image.display())]
    ImageWithoutSocket {
        /// The first of them.
        image: PathBuf,
    },
    /// A socket, and nothing to serve.
    #[error("there is no image for the socket `{}`", socket.display())]
    SocketWithoutImage {
        /// The socket.
        socket: PathBuf,
    },
}

/// What is to be served at a socket.
struct Planned {
    /// As it was given: the absolute path may be longer than a socket's can be.
    socket: PathBuf,
    /// Each once: a VM that does not name its image finds two of one size ambiguous.
    images: Vec<PathBuf>,
}

/// What is to be served, by the sockets' absolute paths.
type Plan = BTreeMap<PathBuf, Planned>;

/// What is served, and how it is opened.
pub(super) struct Catalogue {
    places: Vec<Place>,
    images: Vec<PathBuf>,
    file: Option<PathBuf>,
    options: image::Options,
    /// Who may connect.
    access: Access,
    /// What is open, by the name it was given, and what was found there.
    open: BTreeMap<PathBuf, (Identity, Arc<Served>)>,
}

impl Catalogue {
    pub(super) fn new(
        places: Vec<Place>,
        images: Vec<PathBuf>,
        file: Option<PathBuf>,
        options: image::Options,
        access: Access,
    ) -> Self {
        Self { places, images, file, options, access, open: BTreeMap::new() }
    }

    /// Opens every image, and then listens everywhere.
    pub(super) fn endpoints(&mut self) -> Result<Vec<Endpoint>> {
        let plan = self.plan()?;
        self.open(&plan)?;
        plan.values().map(|planned| self.listen(planned)).collect()
    }

    /// Has `endpoints` be what the file says by now; gives those that are not wanted any more. If anything of it cannot be
    /// had, everything stays as it is.
    pub(super) fn reload(&mut self, endpoints: &mut Vec<Endpoint>) -> Result<Vec<Endpoint>> {
        let plan = self.plan()?;
        self.open(&plan)?;
        // A socket's own path is absolute.
        let there: BTreeSet<PathBuf> = endpoints.iter().map(|at| at.path().to_owned()).collect();
        let new = plan.iter().filter(|(socket, _)| !there.contains(*socket));
        let new = new.map(|(_, planned)| self.listen(planned)).collect::<Result<Vec<Endpoint>>>()?;
        // Nothing fails from here on.
        let (kept, removed): (Vec<_>, Vec<_>) =
            endpoints.drain(..).partition(|endpoint| plan.contains_key(endpoint.path()));
        endpoints.extend(kept);
        for endpoint in &mut *endpoints {
            let images = plan.get(endpoint.path()).map(|planned| self.opened(&planned.images));
            endpoint.serve(images.unwrap_or_default());
        }
        endpoints.extend(new);
        Ok(removed)
    }

    /// What is to be served where.
    fn plan(&self) -> Result<Plan> {
        let (mut places, mut images) = (self.places.clone(), self.images.clone());
        if let Some(file) = &self.file {
            for entry in list::read(file)? {
                match entry {
                    Entry::Image(image) => images.push(image),
                    Entry::Place(place) => places.push(place),
                }
            }
        }
        let mut plan = Plan::new();
        for Place { socket, image } in &places {
            let there = plan
                .entry(absolute(socket)?)
                .or_insert_with(|| Planned { socket: socket.clone(), images: Vec::new() });
            there.images.extend(image.clone());
            if image.is_none() {
                there.images.extend(images.iter().cloned());
            }
        }
        for planned in plan.values_mut() {
            planned.images = distinct(std::mem::take(&mut planned.images))?;
        }
        let first = images.into_iter().next();
        match (places.is_empty(), first) {
            (true, None) => return Err(Contradiction::Nowhere.into()),
            (_, Some(image)) if places.iter().all(|place| place.image.is_some()) => {
                return Err(Contradiction::ImageWithoutSocket { image }.into());
            }
            _ => {}
        }
        // A list may be empty today.
        if let Some(Planned { socket, .. }) =
            plan.values().find(|planned| planned.images.is_empty() && self.file.is_none())
        {
            return Err(Contradiction::SocketWithoutImage { socket: socket.clone() }.into());
        }
        Ok(plan)
    }

    /// Opens what is not open, or is something else by now under the same name; forgets what is not wanted any more.
    fn open(&mut self, plan: &Plan) -> Result<()> {
        let mut open = BTreeMap::new();
        for path in plan.values().flat_map(|planned| &planned.images) {
            if open.contains_key(path) {
                continue;
            }
            // Looked at before it is opened: what is replaced in between is opened again the next time.
            let identity = Identity::of(path);
            let served = match (self.open.get(path), identity.as_ref()) {
                (Some((before, served)), Ok(now)) if before == now => Arc::clone(served),
                _ => Served::open(path, &self.options)?,
            };
            let identity = identity.with_context(|| format!("cannot look at `{}`", path.display()))?;
            open.insert(path.clone(), (identity, served));
        }
        self.open = open;
        Ok(())
    }

    fn opened(&self, images: &[PathBuf]) -> Vec<Arc<Served>> {
        images.iter().filter_map(|path| self.open.get(path)).map(|(_, served)| Arc::clone(served)).collect()
    }

    fn listen(&self, planned: &Planned) -> Result<Endpoint> {
        Ok(Endpoint::new(Socket::bind_for(&planned.socket, self.access)?, self.opened(&planned.images)))
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("`{}` is no path", path.display()))
}

/// Each of `images` once, however often and from wherever it is named, in the order of the first.
fn distinct(images: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut seen = BTreeSet::new();
    let mut distinct = Vec::new();
    for image in images {
        if seen.insert(absolute(&image)?) {
            distinct.push(image);
        }
    }
    Ok(distinct)
}
