//! Writes the sample image as a golden: `REKINDLE_WRITE_GOLDEN=DIR cargo run -p snapshot-format --example write-golden`.
//!
//! DIR must not exist: the goldens of a version that was released are never written again. Without the variable
//! nothing happens, so that building or running all examples is harmless. `rekindle pack DIR --out OTHER` makes the golden
//! of a packed image of it.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use snapshot_format::ImageWriter;
use snapshot_format::dir::WORKING_SET;
use snapshot_format::testing::samples;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(dir) = std::env::var_os("REKINDLE_WRITE_GOLDEN") else {
        return Err("REKINDLE_WRITE_GOLDEN does not say where to".into());
    };
    let mut writer = ImageWriter::create(Path::new(&dir))?;
    writer.memory()?.write_all(&samples::memory_file())?;
    writer.part(WORKING_SET)?.write_all(&samples::working_set().encode())?;
    writer.commit(&samples::state_file()?)?;
    Ok(())
}
