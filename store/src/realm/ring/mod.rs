//! The key ring: every data key of an installation, wrapped by the master key.
//!
//! It is a small file of its own and not rows of the registry, for three reasons. It says without any key which master
//! key is needed. It changes in one step, so that at any moment all of it is wrapped by one master key. And what is
//! taken out of it is gone: an engine of tables and journals keeps old rows until it compacts them, some day.
//!
//! **What must stay true.** A key is durable in the ring before anything is sealed by it. A ring is replaced as a
//! whole, by who holds the realm's lock of changes.

pub(super) mod file;

use super::RealmError;
use crate::seal::{HashKey, KeyGeneration, MasterKey, MasterKeys, SealError, TenantKey, TenantKeys};
use file::{Body, Keys, Place, Wrapped};
use mooring_policy::ids::TenantId;
use mooring_policy::rng::Random;
use mooring_policy::time::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

/// One wrapped key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The tenant; `None` for the realm's own.
    pub tenant: Option<TenantId>,
    /// Which of its data keys.
    pub generation: KeyGeneration,
    /// Whether it seals what is written now.
    pub current: bool,
    /// When it was made.
    pub made: Timestamp,
    /// Fingerprint of the master key that wraps it.
    pub master: String,
}

/// The ring, loaded.
pub(super) struct Ring {
    place: Place,
    random: Arc<dyn Random>,
    state: Mutex<State>,
}

struct State {
    body: Body,
    masters: MasterKeys,
    /// Keys in use by open volumes.
    live: HashMap<TenantId, Weak<TenantKeys>>,
}

/// Whose keys they are, as wrapping binds it.
fn owner(tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(|| "realm".to_owned(), |name| format!("tenant/{name}"))
}

fn wrap(
    master: &MasterKey,
    owner: &str,
    hash: &HashKey,
    (generation, key): (KeyGeneration, &TenantKey),
    (made, random): (Timestamp, &dyn Random),
) -> Result<Keys, SealError> {
    let hash = master.wrap(&format!("{owner}/hash"), &hash.to_key(), random)?;
    let key = master.wrap(&format!("{owner}/{generation}"), key, random)?;
    Ok(Keys { hash, generations: vec![Wrapped { generation, made, key }] })
}

impl Keys {
    /// Every wrapped key in it, with what wrapping binds.
    fn each(&mut self, owner: &str) -> impl Iterator<Item = (String, &mut crate::seal::WrappedKey)> {
        let hash = std::iter::once((format!("{owner}/hash"), &mut self.hash));
        let data =
            self.generations.iter_mut().map(move |w| (format!("{owner}/{}", w.generation), &mut w.key));
        hash.chain(data)
    }

    fn open(&self, owner: &str, masters: &MasterKeys) -> Result<TenantKeys, SealError> {
        let open = |bound: String, key: &crate::seal::WrappedKey| {
            masters.need(owner, key.master())?.unwrap_key(&bound, key)
        };
        let hash = HashKey::from_key(&open(format!("{owner}/hash"), &self.hash)?);
        let mut data = BTreeMap::new();
        for wrapped in &self.generations {
            let key = open(format!("{owner}/{}", wrapped.generation), &wrapped.key)?;
            data.insert(wrapped.generation, key);
        }
        let current = data.pop_last().ok_or(SealError::NoGeneration { generation: 0 })?;
        Ok(TenantKeys::new(hash, current, data))
    }
}

impl Ring {
    /// The ring of an installation that begins: one key, the realm's. Not stored yet.
    pub fn begin(
        place: Place,
        masters: MasterKeys,
        random: Arc<dyn Random>,
        now: Timestamp,
    ) -> Result<Self, SealError> {
        let master = masters.first()?;
        let key = TenantKey::generate(random.as_ref());
        let keys = (KeyGeneration::FIRST, &key);
        let realm = wrap(&master, "realm", &key.hash_key(), keys, (now, random.as_ref()))?;
        let body = Body { serial: 1, realm, tenants: BTreeMap::new() };
        let state = Mutex::new(State { body, masters, live: HashMap::new() });
        Ok(Self { place, random, state })
    }

    /// The ring that is stored, if there is one.
    ///
    /// # Errors
    /// [`SealError::MasterNeeded`] when none of `masters` wraps it.
    pub async fn load(
        place: Place,
        masters: MasterKeys,
        random: Arc<dyn Random>,
    ) -> Result<Option<Self>, RealmError> {
        let Some(body) = place.load().await? else { return Ok(None) };
        // Opened once here, so that a wrong key is told at the start and not by the first who needs it.
        body.realm.open("realm", &masters)?;
        let state = Mutex::new(State { body, masters, live: HashMap::new() });
        Ok(Some(Self { place, random, state }))
    }

    /// Writes the ring as it is.
    pub async fn store(&self) -> Result<(), RealmError> {
        let body = self.state.lock().body.clone();
        self.place.store(&body).await
    }

    /// Changes the ring: durable first, in force then. One at a time, which the realm sees to.
    async fn change(
        &self,
        change: impl FnOnce(&mut Body) -> Result<(), RealmError>,
    ) -> Result<(), RealmError> {
        let mut body = self.state.lock().body.clone();
        change(&mut body)?;
        body.serial += 1;
        self.place.store(&body).await?;
        self.state.lock().body = body;
        Ok(())
    }

    fn master(&self) -> Result<Arc<MasterKey>, SealError> {
        let state = self.state.lock();
        state.masters.need("realm", state.body.realm.hash.master())
    }

    /// The realm's own keys.
    pub fn realm(&self) -> Result<Arc<TenantKeys>, SealError> {
        let state = self.state.lock();
        Ok(Arc::new(state.body.realm.open("realm", &state.masters)?))
    }

    /// A tenant's keys: the same for all who use them.
    pub fn tenant(&self, name: &TenantId) -> Result<Option<Arc<TenantKeys>>, SealError> {
        let mut state = self.state.lock();
        if let Some(live) = state.live.get(name).and_then(Weak::upgrade) {
            return Ok(Some(live));
        }
        let Some(keys) = state.body.tenants.get(name) else { return Ok(None) };
        let keys = Arc::new(keys.open(&owner(Some(name)), &state.masters)?);
        state.live.retain(|_, keys| keys.strong_count() > 0);
        state.live.insert(name.clone(), Arc::downgrade(&keys));
        Ok(Some(keys))
    }

    fn first(&self, name: &TenantId, key: &TenantKey, made: Timestamp) -> Result<Keys, SealError> {
        let (first, made) = ((KeyGeneration::FIRST, key), (made, self.random.as_ref()));
        wrap(&*self.master()?, &owner(Some(name)), &key.hash_key(), first, made)
    }

    /// Takes the key that a tenant had before there was a ring. Not stored yet.
    pub fn take(&self, name: &TenantId, key: &TenantKey, made: Timestamp) -> Result<(), SealError> {
        let keys = self.first(name, key, made)?;
        self.state.lock().body.tenants.insert(name.clone(), keys);
        Ok(())
    }

    /// Gives a tenant its first keys.
    pub async fn add(&self, name: &TenantId, now: Timestamp) -> Result<(), RealmError> {
        let keys = self.first(name, &TenantKey::generate(self.random.as_ref()), now)?;
        self.forget(name);
        self.change(|body| {
            body.tenants.insert(name.clone(), keys);
            Ok(())
        })
        .await
    }

    /// Gives a tenant a new data key.
    pub async fn rotate(&self, name: &TenantId, now: Timestamp) -> Result<KeyGeneration, RealmError> {
        let missing = || RealmError::NoSuchTenant(name.clone());
        let live = self.tenant(name)?.ok_or_else(missing)?;
        let next = live.generation().next().ok_or(RealmError::Exhausted("key generation"))?;
        let key = TenantKey::generate(self.random.as_ref());
        let bound = format!("{}/{next}", owner(Some(name)));
        let wrapped = self.master()?.wrap(&bound, &key, self.random.as_ref())?;
        self.change(|body| {
            let keys = body.tenants.get_mut(name).ok_or_else(missing)?;
            keys.generations.push(Wrapped { generation: next, made: now, key: wrapped });
            Ok(())
        })
        .await?;
        live.rotate(next, key);
        Ok(next)
    }

    /// Takes a tenant's keys out of the ring, for good.
    pub async fn destroy(&self, name: &TenantId) -> Result<(), RealmError> {
        if !self.state.lock().body.tenants.contains_key(name) {
            return Ok(());
        }
        self.change(|body| {
            body.tenants.remove(name);
            Ok(())
        })
        .await?;
        self.forget(name);
        Ok(())
    }

    fn forget(&self, name: &TenantId) {
        let live = self.state.lock().live.remove(name);
        if let Some(keys) = live.and_then(|keys| keys.upgrade()) {
            keys.destroy();
        }
    }

    /// Wraps everything with `to`. Returns how many keys that were.
    pub async fn rotate_master(&self, to: MasterKey, origin: &str) -> Result<usize, RealmError> {
        let masters = {
            let mut state = self.state.lock();
            state.masters.found(to, origin);
            state.masters.clone()
        };
        let to = masters.list().pop().map(|(id, _)| id).unwrap_or_default();
        let (to, mut count) = (masters.need("realm", &to)?, 0);
        self.change(|body| {
            let realm = std::iter::once((None, &mut body.realm));
            let tenants = body.tenants.iter_mut().map(|(name, keys)| (Some(name), keys));
            for (tenant, keys) in realm.chain(tenants) {
                for (bound, wrapped) in keys.each(&owner(tenant)) {
                    let key = masters.need(&bound, wrapped.master())?.unwrap_key(&bound, wrapped)?;
                    *wrapped = to.wrap(&bound, &key, self.random.as_ref())?;
                    count += 1;
                }
            }
            Ok(())
        })
        .await?;
        Ok(count)
    }

    /// The master key in force and the others at hand, with their places.
    pub fn masters(&self) -> (String, Vec<(String, String)>) {
        let state = self.state.lock();
        (state.body.realm.hash.master().to_owned(), state.masters.list())
    }

    /// Every data key.
    pub fn list(&self) -> Vec<KeyInfo> {
        let state = self.state.lock();
        let realm = std::iter::once((None, &state.body.realm));
        let tenants = state.body.tenants.iter().map(|(name, keys)| (Some(name.clone()), keys));
        let info = |(tenant, keys): (Option<TenantId>, &Keys)| -> Vec<KeyInfo> {
            let last = keys.generations.last().map(|wrapped| wrapped.generation);
            let each = keys.generations.iter().map(|wrapped| KeyInfo {
                tenant: tenant.clone(),
                generation: wrapped.generation,
                current: Some(wrapped.generation) == last,
                made: wrapped.made,
                master: wrapped.key.master().to_owned(),
            });
            each.collect()
        };
        realm.chain(tenants).flat_map(info).collect()
    }
}
