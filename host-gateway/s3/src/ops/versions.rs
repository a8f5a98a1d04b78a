//! Listings of versions: the objects of a bucket, and what its snapshots have of them.
//!
//! The version `null` is the object as it is. Others are called like the snapshot they are in, the newest first, and only
//! those are listed that differ from the one before: an object that nobody changed has one version, however many snapshots
//! were taken. What was deleted has only those of snapshots, and none of them is the latest.
//!
//! Each tree (the bucket, then each snapshot) is listed a page at a time, and the pages are merged up to where the shortest
//! of them ends. A page ends between two keys, unless one key alone has more versions than fit.

use std::collections::BTreeMap;

use bytes::Bytes;
use mooring_store::api::{ListPage, ListQuery, ObjectInfo};
use mooring_store::error::StoreError;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::error::from_store;
use crate::ops::list::{Encoding, common, given, key, limit};
use crate::ops::{Door, Open, Versioned, convert, identity};

/// Objects looked at for one answer, of all trees together, as far as one of each allows.
const LOOK: usize = 20_000;

/// A tree: the bucket, or the snapshot of this name.
type Tree = Option<String>;

/// An object of a tree.
type Version = (Tree, ObjectInfo);

/// What is listed under one key.
enum Item {
    Prefix,
    /// In the order of the trees.
    Versions(Vec<Version>),
}

/// What was asked for.
struct Asked<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    limit: usize,
}

/// What is answered.
#[derive(Default)]
struct Answer {
    versions: Vec<Version>,
    prefixes: Vec<Bytes>,
    /// Key and version behind which to go on.
    next: Option<(Bytes, Option<String>)>,
}

impl Answer {
    fn len(&self) -> usize {
        self.versions.len() + self.prefixes.len()
    }

    /// Adds what fits. `false`: the answer is full, and says where to go on.
    fn add(&mut self, limit: usize, key: &Bytes, item: Item) -> bool {
        match item {
            Item::Prefix if self.len() < limit => self.prefixes.push(key.clone()),
            Item::Versions(all) => {
                let room = limit - self.len();
                if all.len() > room && room == limit {
                    let last = all.get(room.saturating_sub(1)).map(|(tree, _)| id(tree));
                    self.versions.extend(all.into_iter().take(room));
                    self.next = Some((key.clone(), last));
                    return false;
                }
                if all.len() > room {
                    return self.full();
                }
                self.versions.extend(all);
            }
            Item::Prefix => return self.full(),
        }
        true
    }

    /// Goes on behind what was added last.
    fn full(&mut self) -> bool {
        let version = self.versions.last().map(|(tree, info)| (info.key.clone(), Some(id(tree))));
        let prefix = self.prefixes.last().map(|prefix| (prefix.clone(), None));
        self.next = version.into_iter().chain(prefix).max();
        false
    }
}

fn id(tree: &Tree) -> String {
    tree.clone().unwrap_or_else(|| "null".to_owned())
}

/// Those that differ from the one before.
fn distinct(all: Vec<Version>) -> Vec<Version> {
    let mut kept: Vec<Version> = Vec::new();
    for (tree, info) in all {
        let same = |(_, before): &Version| {
            (before.size, before.modified, &before.etag) == (info.size, info.modified, &info.etag)
        };
        if !kept.last().is_some_and(same) {
            kept.push((tree, info));
        }
    }
    kept
}

impl Open {
    async fn trees(&self) -> S3Result<Vec<Tree>> {
        let snapshots = match self.objects.snapshot_names(&self.cx).await {
            // Who may list a part of the bucket only sees the bucket as it is.
            Err(StoreError::AccessDenied(_) | StoreError::NotFound) => Vec::new(),
            names => names.map_err(from_store)?,
        };
        Ok(std::iter::once(None).chain(snapshots.into_iter().map(Some)).collect())
    }

    /// A page of a tree, its keys as they are in the bucket.
    async fn tree_page(
        &self,
        tree: &Tree,
        asked: &Asked<'_>,
        after: &[u8],
        few: usize,
    ) -> S3Result<ListPage> {
        let within = tree.as_ref().map_or_else(String::new, |name| format!(".snapshots/{name}/"));
        let place = |key: &[u8]| [within.as_bytes(), key].concat();
        let query = ListQuery {
            prefix: place(asked.prefix.as_bytes()),
            delimiter: asked.delimiter.map(|delimiter| delimiter.as_bytes().to_vec()),
            after: if after.is_empty() { Vec::new() } else { place(after) },
            limit: few,
        };
        let page = self.objects.list(&self.cx, &query).await.map_err(from_store)?;
        let cut = |key: &Bytes| key.slice(within.len().min(key.len())..);
        Ok(ListPage {
            objects: page
                .objects
                .into_iter()
                .map(|info| ObjectInfo { key: cut(&info.key), ..info })
                .collect(),
            prefixes: page.prefixes.iter().map(cut).collect(),
            next: page.next.map(|next| next.get(within.len()..).unwrap_or_default().to_vec()),
        })
    }

    /// The versions of one key behind `marker`.
    async fn versions_behind(&self, trees: &[Tree], key: &str, marker: &str) -> S3Result<Vec<Version>> {
        let mut all = Vec::new();
        for tree in trees {
            let named = Versioned::new(key, tree.as_deref());
            match self.objects.head(&self.cx, named.key.as_bytes()).await {
                Ok(info) => {
                    all.push((
                        tree.clone(),
                        ObjectInfo { key: Bytes::copy_from_slice(key.as_bytes()), ..info },
                    ));
                }
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(from_store(error)),
            }
        }
        let all = distinct(all);
        // A snapshot that was removed meanwhile: what it was the newest of is listed again.
        let behind = all.iter().position(|(tree, _)| id(tree) == marker).map_or(0, |at| at + 1);
        Ok(all.into_iter().skip(behind).collect())
    }

    async fn versions(&self, asked: &Asked<'_>, marker: (&str, Option<&str>)) -> S3Result<Answer> {
        let trees = self.trees().await?;
        let few = (LOOK / trees.len()).clamp(1, asked.limit.max(1));
        let mut answer = Answer::default();
        let (from, version) = marker;
        if let Some(version) = version {
            let left = self.versions_behind(&trees, from, version).await?;
            let key = Bytes::copy_from_slice(from.as_bytes());
            if !left.is_empty() && !answer.add(asked.limit, &key, Item::Versions(left)) {
                return Ok(answer);
            }
        }
        let mut after = from.as_bytes().to_vec();
        loop {
            let (items, horizon) = self.merged(&trees, asked, &after, few).await?;
            for (key, item) in items {
                if !answer.add(asked.limit, &key, item) {
                    return Ok(answer);
                }
            }
            let Some(horizon) = horizon else { return Ok(answer) };
            if answer.len() >= asked.limit {
                answer.full();
                return Ok(answer);
            }
            after = horizon;
        }
    }

    /// What all trees list behind `after`, as far as it is known of all of them, and how far that is.
    async fn merged(
        &self,
        trees: &[Tree],
        asked: &Asked<'_>,
        after: &[u8],
        few: usize,
    ) -> S3Result<(BTreeMap<Bytes, Item>, Option<Vec<u8>>)> {
        let mut items: BTreeMap<Bytes, Item> = BTreeMap::new();
        let mut horizon: Option<Vec<u8>> = None;
        for tree in trees {
            let page = self.tree_page(tree, asked, after, few).await?;
            for prefix in page.prefixes {
                items.insert(prefix, Item::Prefix);
            }
            for info in page.objects {
                match items.entry(info.key.clone()).or_insert_with(|| Item::Versions(Vec::new())) {
                    Item::Versions(all) => all.push((tree.clone(), info)),
                    Item::Prefix => {}
                }
            }
            if let Some(next) = page.next {
                horizon = Some(horizon.map_or(next.clone(), |known| known.min(next)));
            }
        }
        if let Some(horizon) = &horizon {
            items.retain(|key, _| key[..] <= horizon[..]);
        }
        for item in items.values_mut() {
            if let Item::Versions(all) = item {
                *all = distinct(std::mem::take(all));
            }
        }
        Ok((items, horizon))
    }
}

impl Door {
    pub(super) async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = &req.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let marker = (given(&input.key_marker), given(&input.version_id_marker));
        let marker = match marker {
            (None, Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "A version-id marker cannot be specified without a key marker."
                ));
            }
            (key, version) => (key.unwrap_or_default(), version),
        };
        let limit = limit(input.max_keys)?;
        let asked = Asked {
            prefix: given(&input.prefix).unwrap_or_default(),
            delimiter: given(&input.delimiter),
            limit: usize::try_from(limit).unwrap_or(0),
        };
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let answer = match asked.limit {
            // Even when nothing is asked for, the right to look is checked.
            0 => open.tree_page(&None, &asked, b"", 1).await.map(|_| Answer::default())?,
            _ => open.versions(&asked, marker).await?,
        };
        let owner = convert::owner(identity(&req.extensions)?);
        let (next_key, next_version) = answer.next.clone().unzip();
        let text = |key: Bytes| encoding.text(String::from_utf8_lossy(&key));
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket.clone()),
            prefix: Some(encoding.text(input.prefix.clone().unwrap_or_default())),
            key_marker: Some(encoding.text(input.key_marker.clone().unwrap_or_default())),
            version_id_marker: input.version_id_marker.clone(),
            max_keys: Some(limit),
            is_truncated: Some(answer.next.is_some()),
            next_key_marker: next_key.map(text),
            next_version_id_marker: next_version.flatten(),
            versions: Some(answer.versions.iter().filter_map(|v| version(v, encoding, &owner)).collect()),
            common_prefixes: Some(common(&answer.prefixes, encoding)),
            delimiter: asked.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: encoding.echo(),
            ..Default::default()
        }))
    }
}

fn version((tree, info): &Version, encoding: Encoding, owner: &Owner) -> Option<ObjectVersion> {
    Some(ObjectVersion {
        key: Some(key(info, encoding)?),
        version_id: Some(id(tree)),
        is_latest: Some(tree.is_none()),
        last_modified: Some(convert::time(info.modified)),
        e_tag: Some(convert::etag(&info.etag)),
        size: i64::try_from(info.size).ok(),
        storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
        owner: Some(owner.clone()),
        ..Default::default()
    })
}
