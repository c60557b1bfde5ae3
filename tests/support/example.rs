//! An example as its users run it: the built program.

use std::fs;
use std::path::{Path, PathBuf};

/// The built example of this name, made of its sources as they are. `cargo test` builds it, but not where it is told to test one
/// file alone.
pub fn built_example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a program knows where it is");
    let profile = this.parent().and_then(Path::parent).expect("it is in `deps`, in the folder of a profile");
    let program = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let modified = |file: &Path| fs::metadata(file).and_then(|of| of.modified()).ok();
    let written = sources(name, &program).iter().filter_map(|file| modified(file)).max();
    assert!(
        modified(&program).is_some_and(|built| Some(built) >= written),
        "{} is not there, or older than its source: cargo build --example {name}",
        program.display()
    );
    program
}

/// Those that the compiler has read, as Cargo writes them down beside the program, and what may have come since.
fn sources(name: &str, program: &Path) -> Vec<PathBuf> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let read = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let read = read.split_whitespace().map(PathBuf::from).filter(|file| file.starts_with(&examples));
    let own = fs::read_dir(examples.join(name)).into_iter().flatten().flatten().map(|part| part.path());
    read.chain(own).chain([examples.join(format!("{name}.rs"))]).collect()
}
