use secrecy::{ExposeSecret as _, SecretSlice};

use crate::at;
use crate::attrs::Attrs;
use crate::dir::SecretDir;
use crate::error::{FileError, Operation, failed};
use crate::name::{self, TEMPORARY};
use crate::write::Temporary;

/// More than a key share or a token has.
const PROBE_SIZE: usize = 4096;

impl SecretDir {
    /// Does with a file of 4 KiB all that [`create_new`](Self::create_new), [`replace`](Self::replace) and
    /// [`remove`](Self::remove) do, and reads it back. To be called before something is produced that cannot be produced again.
    pub fn prove_writable(&self) -> Result<(), FileError> {
        self.clear_strays();
        let path = self.path();
        let probe = self.probe()?;
        let name = name::fresh(TEMPORARY).map_err(failed(Operation::Create, path))?;

        Temporary::write(self, path, &probe, Attrs::PRIVATE)?.rename_new(&name)?;
        Temporary::write(self, path, &probe, Attrs::PRIVATE)?.rename(&name)?;
        let proven = self.sync().and_then(|()| self.read_in(&self.file, &name, PROBE_SIZE));
        let removed = at::unlink(&self.file, &name).map_err(failed(Operation::Remove, path));

        if proven?.expose_secret() != probe.expose_secret() {
            return Err(FileError::NotReadBack { path: path.to_owned() });
        }
        removed?;
        self.sync()
    }

    /// Finds out whether there is room for this many files of 4 KiB at once. Nothing of them stays.
    pub fn prove_room(&self, files: usize) -> Result<(), FileError> {
        let probe = self.probe()?;
        let written = (0..files).map(|_| Temporary::write(self, self.path(), &probe, Attrs::PRIVATE));
        written.collect::<Result<Vec<_>, _>>().map(drop)
    }

    fn probe(&self) -> Result<SecretSlice<u8>, FileError> {
        let mut probe = vec![0; PROBE_SIZE];
        getrandom::fill(&mut probe).map_err(failed(Operation::Create, self.path()))?;
        Ok(SecretSlice::from(probe))
    }
}
