//! Recording how a guest's driver brings its card up, for cards that have to be shared.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use mmio::bring_up::{Record, Recorder};
use tempfile::NamedTempFile;

use crate::boot;

/// A record that is being made. Its file appears at the end, whole.
pub struct Recording {
    file: NamedTempFile,
    path: PathBuf,
    recorder: Arc<Recorder>,
}

impl Recording {
    /// Begins one for the file `path`.
    ///
    /// # Errors
    ///
    /// Nothing can be written there.
    pub fn begin(path: &Path) -> anyhow::Result<Self> {
        let place = path.parent().filter(|place| *place != Path::new(""));
        let failed = || format!("Cannot write {}", path.display());
        if path.is_dir() {
            bail!("{}: it is a directory", failed());
        }
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(place.unwrap_or(Path::new(".")))
            .with_context(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            recorder: Arc::default(),
        })
    }

    /// What watches the driver.
    pub fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    /// Ends it, when the guest with `kernel` has ended: there is a record, if its driver did all that
    /// belongs to one.
    ///
    /// # Errors
    ///
    /// It did not, or the file cannot be written.
    pub fn finish(mut self, kernel: &Path) -> anyhow::Result<()> {
        let name = kernel.file_name().unwrap_or_default().to_string_lossy();
        let driver = match boot::kernel_version(kernel) {
            Some(version) => format!("Linux {version} ({name})"),
            None => name.into_owned(),
        };
        let text = self.recorder.record(driver).text().context(
            "The guest's driver has not brought all engines up: let it use OpenCL or GL, and copy",
        )?;
        let mut written = || {
            self.file.write_all(text.as_bytes())?;
            self.file.as_file().sync_data()?;
            fs::rename(self.file.path(), &self.path)
        };
        written().with_context(|| format!("Cannot write {}", self.path.display()))?;
        tracing::info!("The card's bring-up is in {}", self.path.display());
        Ok(())
    }
}

/// The record in the file `path`.
///
/// # Errors
///
/// It cannot be read, or is none.
pub fn read(path: &Path) -> anyhow::Result<Record> {
    let failed = || format!("Cannot bring a card up by {}", path.display());
    let mut bytes = Vec::new();
    let most = Record::MOST_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .with_context(failed)?;
    Record::parse(&bytes).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_did_nothing_leaves_no_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("record");
        let recording = Recording::begin(&path).unwrap();

        let error = recording.finish(Path::new("vmlinuz")).unwrap_err();

        assert!(format!("{error:#}").contains("has nothing of the card"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_where_nothing_can_be_written_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();

        assert!(Recording::begin(&place.path().join("none/record")).is_err());
        assert!(Recording::begin(place.path()).is_err());
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_name() {
        let file = NamedTempFile::new().unwrap();

        let error = read(file.path()).unwrap_err();

        assert!(format!("{error:#}").contains(&*file.path().to_string_lossy()));
        assert!(read(Path::new("/none")).is_err());
    }
}
