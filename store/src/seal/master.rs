//! The master key of an installation and the keys it wraps.

use super::{Cipher, SealError, TenantKey};
use mooring_policy::rng::Random;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const FILE_HEAD: &str = "mooring-master-key-1 ";
const WRAP_VERSION: u8 = 1;

/// The key that wraps every tenant's key. Losing it loses all data; it is one small file on purpose, so that it
/// can be backed up or come from elsewhere.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.fingerprint())
    }
}

/// A tenant's key under a master key, as the realm keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    version: u8,
    /// Which master key wrapped it, so that a wrong one is told from damage.
    master: String,
    #[serde(with = "text")]
    salt: Vec<u8>,
    #[serde(with = "text")]
    sealed: Vec<u8>,
}

impl WrappedKey {
    /// Fingerprint of the master key that wrapped it.
    #[must_use]
    pub fn master(&self) -> &str {
        &self.master
    }
}

/// Bytes as hexadecimal text. Also reads the lists of numbers that were written before.
mod text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Numbers(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Form::deserialize(from)? {
            Form::Text(text) => hex::decode(text).map_err(D::Error::custom),
            Form::Numbers(bytes) => Ok(bytes),
        }
    }
}

impl MasterKey {
    /// A key from outside: 64 hexadecimal digits, with or without the head that [`Self::create`] writes. `origin`
    /// (a variable or a file) names the place in errors.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, SealError> {
        let malformed = |detail: &str| SealError::MasterMalformed {
            path: origin.to_path_buf(),
            detail: detail.to_owned(),
        };
        let text = text.trim();
        let digits = text.strip_prefix(FILE_HEAD.trim_end()).unwrap_or(text).trim();
        let mut key = [0; 32];
        hex::decode_to_slice(digits, &mut key)
            .map_err(|_| malformed("it must hold 64 hexadecimal digits"))?;
        if key == [0; 32] {
            return Err(malformed("it is all zeros"));
        }
        Ok(Self(key))
    }

    /// Reads the key in `path`. A file that others may read is refused.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let io = |source| match source {
            source if std::io::Error::kind(&source) == std::io::ErrorKind::NotFound => {
                SealError::MasterMissing { path: path.to_path_buf() }
            }
            source => key_io("read", path, source),
        };
        let mut file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let detail = format!("mode {mode:04o} lets other users read it; run chmod 0600 on it");
            return Err(SealError::MasterMalformed { path: path.to_path_buf(), detail });
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(4096).read_to_string(&mut text).map_err(io)?;
        Self::parse(&text, path)
    }

    /// Writes a new key to `path` with mode 0600 and syncs it. Fails when the file exists.
    pub fn create(path: &Path, random: &dyn Random) -> Result<Self, SealError> {
        let mut key = Self([0; 32]);
        random.fill(&mut key.0);
        let text = Zeroizing::new(format!("{FILE_HEAD}{}\n", Zeroizing::new(hex::encode(key.0)).as_str()));
        // A temporary name and a hard link: a crash leaves a whole key or none, and never replaces one.
        let temporary = path.with_extension("new");
        let made = (|| {
            match std::fs::remove_file(&temporary) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&temporary, path)?;
            std::fs::remove_file(&temporary)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        })();
        made.map_err(|source| key_io("create", path, source))?;
        Ok(key)
    }

    /// The first eight bytes of a hash of the key, in hexadecimal: names it without telling it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(&blake3::derive_key("mooring 2026-11 master fingerprint v1", &self.0)[..8])
    }

    /// Wraps `key` for `owner` (`realm/1`, `tenant/acme/hash`), which is bound: it does not open under another name.
    pub fn wrap(&self, owner: &str, key: &TenantKey, random: &dyn Random) -> Result<WrappedKey, SealError> {
        let mut salt = [0; 32];
        random.fill(&mut salt);
        let mut sealed = Vec::with_capacity(48);
        sealed.extend_from_slice(key.bytes());
        self.wrapping(&salt)?.seal_tail(0, owner.as_bytes(), &mut sealed, 0)?;
        Ok(WrappedKey { version: WRAP_VERSION, master: self.fingerprint(), salt: salt.to_vec(), sealed })
    }

    /// Opens what [`Self::wrap`] made.
    pub fn unwrap_key(&self, owner: &str, wrapped: &WrappedKey) -> Result<TenantKey, SealError> {
        if wrapped.version != WRAP_VERSION {
            return Err(SealError::Version { found: wrapped.version, supported: WRAP_VERSION });
        }
        let have = self.fingerprint();
        if wrapped.master != have {
            let (owner, wrapped_by) = (owner.to_owned(), wrapped.master.clone());
            return Err(SealError::MasterWrong { owner, wrapped_by, have });
        }
        let mut sealed = Zeroizing::new(wrapped.sealed.clone());
        let plain = self.wrapping(&wrapped.salt)?.open(0, owner.as_bytes(), &mut sealed)?;
        let mut key = [0; 32];
        if plain.len() != key.len() {
            return Err(SealError::Open);
        }
        key.copy_from_slice(plain);
        Ok(TenantKey::from_bytes(key))
    }

    fn wrapping(&self, salt: &[u8]) -> Result<Cipher, SealError> {
        let mut hasher = blake3::Hasher::new_derive_key("mooring 2026-11 tenant key wrap v1");
        hasher.update(&self.0);
        hasher.update(salt);
        let mut key = *hasher.finalize().as_bytes();
        let cipher = Cipher::new(&key);
        key.zeroize();
        hasher.zeroize();
        cipher
    }
}

fn key_io(op: &'static str, path: &Path, source: std::io::Error) -> SealError {
    SealError::Io { op, path: path.to_path_buf(), source: Arc::new(source) }
}
