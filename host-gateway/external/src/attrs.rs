//! Attributes. An object has a length and a time; the rest is said by the bucket's options.

use mooring_policy::action::Action;
use mooring_protocol::types::{Attr, Ino, SetAttr, SetTime};
use mooring_store::api::{Caller, Result};
use mooring_store::error::StoreError;

use crate::External;
use crate::node::Node;

impl External {
    pub(crate) async fn do_setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr> {
        cx.authority.check(Action::Write, None)?;
        self.writable()?;
        let node = self.node(cx, ino)?;
        let attr = node.attr(&self.look);
        let other = |new: Option<u32>, old: u32| new.is_some_and(|new| new != old);
        if set.mode.is_some_and(|mode| mode & 0o7777 != attr.mode) {
            return Err(StoreError::Unsupported(
                "another mode in an external bucket: see bucket create --file-mode",
            ));
        }
        if other(set.uid, attr.uid) || other(set.gid, attr.gid) {
            return Err(StoreError::Unsupported(
                "another owner in an external bucket: see bucket create --uid",
            ));
        }
        if let Some(size) = set.size {
            self.set_size(cx, ino, size).await?;
        }
        self.set_times(cx, &node, set)?;
        Ok(node.attr(&self.look))
    }

    async fn set_size(&self, cx: &Caller, ino: Ino, size: u64) -> Result<()> {
        let node = self.file(cx, ino)?;
        let _work = node.work.lock().await;
        let spool = match size {
            // Of what is cut off nothing has to be fetched.
            0 => {
                let spool = self.spools.make()?;
                node.state.lock().spool = Some(spool.clone());
                spool
            }
            _ => self.to_change(&node).await?,
        };
        spool.resize(size).await?;
        self.touch(&node, &mut node.state.lock(), cx.now, None);
        Ok(())
    }

    /// A file that is not uploaded yet shows the time it was given; one that is has the other store's. Times of access
    /// are kept nowhere.
    fn set_times(&self, cx: &Caller, node: &Node, set: &SetAttr) -> Result<()> {
        let Some(mtime) = set.mtime else { return Ok(()) };
        let mtime = match mtime {
            SetTime::Now => cx.now,
            SetTime::At(time) => time,
        };
        let mut state = node.state.lock();
        match state.dirty {
            Some(_) => {
                state.modified = Some(mtime);
                state.version = self.table.version(cx.now);
                Ok(())
            }
            None if state.mtime() == mtime => Ok(()),
            None => Err(StoreError::Unsupported("setting times in an external bucket: they are the store's")),
        }
    }
}
