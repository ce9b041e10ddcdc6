use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

use tempfile::TempDir;

use super::*;

/// Memory of `pages` pages.
fn image(dir: &TempDir, name: &str, pages: u64) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(pages * 4096).unwrap();
    path
}

fn place(dir: &TempDir, socket: &str, image: Option<&Path>) -> Place {
    Place { socket: dir.path().join(socket), image: image.map(Path::to_owned) }
}

fn lengths(endpoint: &Endpoint) -> Vec<u64> {
    endpoint.images().iter().map(|image| image.source().len() / 4096).collect()
}

/// Socket and lengths of what is served there, by name.
fn told(endpoints: &[Endpoint]) -> Vec<(String, Vec<u64>)> {
    let name = |at: &Endpoint| at.path().file_name().unwrap().to_str().unwrap().to_owned();
    let mut told: Vec<_> = endpoints.iter().map(|at| (name(at), lengths(at))).collect();
    told.sort();
    told
}

fn is(told: &[(String, Vec<u64>)], wanted: &[(&str, &[u64])]) -> bool {
    told.iter().map(|(name, lengths)| (name.as_str(), lengths.as_slice())).eq(wanted.iter().copied())
}

#[test]
fn each_socket_has_what_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = [("a", 1), ("b", 2), ("c", 3)].map(|(name, pages)| image(&dir, name, pages));
    let places = vec![
        place(&dir, "one", Some(&a)),
        place(&dir, "all", None),
        place(&dir, "two", Some(&b)),
        place(&dir, "two", Some(&c)),
    ];
    let mut catalogue =
        Catalogue::new(places, vec![b, c], None, image::Options::default(), Access::default());
    let told = told(&catalogue.endpoints().unwrap());
    assert!(is(&told, &[("all", &[2, 3]), ("one", &[1]), ("two", &[2, 3])]), "{told:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = image(&dir, "a", 1);
    let refused = |places: Vec<Place>, images: Vec<PathBuf>| {
        let mut catalogue =
            Catalogue::new(places, images, None, image::Options::default(), Access::default());
        catalogue.endpoints().unwrap_err().downcast::<Contradiction>().unwrap()
    };
    assert!(matches!(refused(vec![], vec![]), Contradiction::Nowhere));
    assert!(matches!(refused(vec![], vec![a.clone()]), Contradiction::ImageWithoutSocket { .. }));
    let own = vec![place(&dir, "s", Some(&a))];
    assert!(matches!(refused(own, vec![a]), Contradiction::ImageWithoutSocket { .. }));
    assert!(matches!(
        refused(vec![place(&dir, "s", None)], vec![]),
        Contradiction::SocketWithoutImage { .. }
    ));
}

#[test]
fn a_list_that_is_read_again_adds_removes_and_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = [("a", 1), ("b", 2)].map(|(name, pages)| image(&dir, name, pages));
    let list = dir.path().join("list");
    fs::write(&list, format!("# of today\n\n{}\n", a.display())).unwrap();
    let places = vec![place(&dir, "all", None)];
    let mut catalogue =
        Catalogue::new(places, vec![], Some(list.clone()), image::Options::default(), Access::default());
    let mut endpoints = catalogue.endpoints().unwrap();
    assert!(is(&told(&endpoints), &[("all", &[1])]));
    let first = Arc::clone(&endpoints[0].images()[0]);

    let two = dir.path().join("two");
    fs::write(&list, format!("{}\n{}\n{}={}", a.display(), b.display(), two.display(), b.display())).unwrap();
    assert!(catalogue.reload(&mut endpoints).unwrap().is_empty());
    assert!(is(&told(&endpoints), &[("all", &[1, 2]), ("two", &[2])]));
    assert!(Arc::ptr_eq(&endpoints[0].images()[0], &first), "what has not changed stays open");

    // If one of them cannot be had, all stays as it is.
    fs::write(&list, format!("{}\n{}", dir.path().join("none").display(), b.display())).unwrap();
    catalogue.reload(&mut endpoints).unwrap_err();
    assert!(is(&told(&endpoints), &[("all", &[1, 2]), ("two", &[2])]));

    // Another file of the same name, and no second socket any more.
    fs::rename(image(&dir, "new", 5), &a).unwrap();
    fs::write(&list, a.as_os_str().as_bytes()).unwrap();
    let removed = catalogue.reload(&mut endpoints).unwrap();
    assert!(is(&told(&removed), &[("two", &[2])]) && is(&told(&endpoints), &[("all", &[5])]));
    fs::write(&list, "").unwrap();
    catalogue.reload(&mut endpoints).unwrap();
    assert!(is(&told(&endpoints), &[("all", &[])]));
}

/// The same image twice is one, or a VM that does not name it would be refused; at a start and when a list is read again.
#[test]
fn what_is_said_twice_is_served_once() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = [("a", 1), ("b", 2)].map(|(name, pages)| image(&dir, name, pages));
    let list = dir.path().join("list");
    fs::write(&list, format!("{0}\n{0}", b.display())).unwrap();
    let places = vec![place(&dir, "own", Some(&a)), place(&dir, "own", Some(&a)), place(&dir, "all", None)];
    let images = vec![a.clone(), a.clone()];
    let mut catalogue =
        Catalogue::new(places, images, Some(list.clone()), image::Options::default(), Access::default());
    let mut endpoints = catalogue.endpoints().unwrap();
    let wanted: [(&str, &[u64]); 2] = [("all", &[1, 2]), ("own", &[1])];
    assert!(is(&told(&endpoints), &wanted), "{:?}", told(&endpoints));
    fs::write(
        &list,
        format!("{0}\n{0}\n{1}={2}", b.display(), dir.path().join("own").display(), a.display()),
    )
    .unwrap();
    assert!(catalogue.reload(&mut endpoints).unwrap().is_empty());
    assert!(is(&told(&endpoints), &wanted), "{:?}", told(&endpoints));
}

#[test]
fn a_path_is_the_same_from_wherever_it_is_named() {
    let here = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let a = image(&here, "a", 1);
    let short = |path: &Path| path.strip_prefix(std::env::current_dir().unwrap()).unwrap().to_owned();
    let own = here.path().join("own");
    let places = vec![
        Place { socket: short(&own), image: Some(a.clone()) },
        Place { socket: own.clone(), image: Some(short(&a)) },
    ];
    let list = here.path().join("list");
    fs::write(&list, "").unwrap();
    let mut catalogue =
        Catalogue::new(places, vec![], Some(list.clone()), image::Options::default(), Access::default());
    let mut endpoints = catalogue.endpoints().unwrap();
    assert!(is(&told(&endpoints), &[("own", &[1])]));
    fs::write(&list, format!("{}={}", own.display(), a.display())).unwrap();
    assert!(catalogue.reload(&mut endpoints).unwrap().is_empty());
    assert!(is(&told(&endpoints), &[("own", &[1])]));
}
