//! Listing a directory: what the other store says, and what was made or removed here since.

use std::collections::BTreeMap;

use mooring_policy::action::Action;
use mooring_protocol::types::{DirEntry, FileKind, Ino, Name};
use mooring_store::api::{Caller, Result};

use crate::External;
use crate::remote::Stat;

impl External {
    pub(crate) async fn do_readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        cx.authority.check(Action::List, None)?;
        let directory = self.directory(cx, ino)?;
        let mut after = [&directory[..], cursor].concat();
        // A page may have nothing that can be shown in a mount; then the next one is asked for.
        loop {
            let asked = self.moment();
            let page = self.remote.list(&directory, Some("/"), &after, limit).await?;
            // Keys in order: a directory's ends with `/`.
            let mut found: BTreeMap<Vec<u8>, Option<Stat>> = BTreeMap::new();
            found.extend(page.prefixes.into_iter().map(|prefix| (prefix, None)));
            found.extend(page.objects.into_iter().map(|object| (object.key, Some(object.stat))));
            for (key, present) in self.table.changed_below(&directory, &after, asked) {
                let within = page.next.as_ref().is_none_or(|next| key <= *next);
                match present {
                    true if within => drop(found.entry(key).or_insert(None)),
                    true => {}
                    false => drop(found.remove(&key)),
                }
            }
            let mut entries = Vec::with_capacity(found.len());
            let shown: Vec<Vec<u8>> = found.keys().cloned().collect();
            for (key, stat) in found {
                let hidden = shown.binary_search(&[&key[..], b"/"].concat()).is_ok();
                let Some(name) = name(&directory, &key).filter(|_| !hidden) else { continue };
                let dir = key.ends_with(b"/");
                let observed = match (dir, &stat) {
                    (false, None) => self.table.by_key(&key),
                    _ => self.table.observe(&key, stat.as_ref().filter(|_| !dir), asked, cx.now),
                };
                let Some(node) = observed else { continue };
                let kind = if dir { FileKind::Dir } else { FileKind::File };
                let attr = plus.then(|| node.attr(&self.look));
                entries.push(DirEntry { name, ino: node.ino, kind, attr });
            }
            let end = page.next.is_none() && entries.len() <= limit;
            entries.truncate(limit);
            match page.next {
                Some(next) if entries.is_empty() => after = next,
                _ => return Ok((entries, end)),
            }
        }
    }
}

/// The name of a key right below a directory, when it can be one.
fn name(directory: &[u8], key: &[u8]) -> Option<Name> {
    let rest = key.strip_prefix(directory)?;
    Name::new(rest.strip_suffix(b"/").unwrap_or(rest)).ok()
}
