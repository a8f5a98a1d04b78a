//! The one API that every door uses: FUSE sessions, S3 and (later) block exports meet here.
//!
//! [`Tree`] is a volume as a filesystem, [`Objects`] the same tree as a bucket of objects. Both take a [`Caller`]
//! first: who asks, from which root, at what moment. The first line of every method asks the caller's
//! [`Authority`] and, for callers confined to a share, whether the inode lies under the share's root: the check sits
//! beside the data, so a door cannot forget it.
//!
//! Guarantees every implementation keeps (the conformance suite and the model test check them):
//! 1. Each method is atomic: other callers see all of it or nothing.
//! 2. On return the change is visible to every later call and in the journal or pack file (it survives kill -9 of this
//!    process). It is durable after a later [`Tree::fsync`] or [`Tree::sync`].
//! 3. After a crash the volume is a prefix of the sequence of operations; everything before a returned `fsync`/`sync`
//!    is in it. A file never shows bytes that were not written to it.
//! 4. Leases are not its concern: the gateway settles them before it calls.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::action::Action;
use mooring_protocol::types::{
    Allocate, Attr, DirEntry, Ino, Name, NewNode, RenameMode, Seek, SetAttr, Time, VolumeStat, XattrMode,
};

use crate::error::StoreError;

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Decides whether the caller may do something, now. Implemented over `policy::decide` by the doors.
pub trait Authority: Send + Sync {
    /// May the caller do `action` on the object `key` of this bucket (`None`: on the bucket or the share as a whole)?
    /// Denied and unknowable is [`StoreError::NotFound`], denied and known is [`StoreError::AccessDenied`].
    fn check(&self, action: Action, key: Option<&[u8]>) -> Result<()>;
}

/// Who asks, and when: the first argument of every data method.
#[derive(Clone)]
pub struct Caller {
    /// Asked first by every method.
    pub authority: Arc<dyn Authority>,
    /// The directory the caller's world starts at: the volume's root for the owner, a share's root for a grantee.
    pub root: Ino,
    /// True for a grantee: every inode must lie under `root`, sizes are logical, links and renames may not leave.
    pub confined: bool,
    /// The gateway's time of the operation; stamps are clamped above the inode's ctime.
    pub now: Time,
    /// For logs.
    pub trace: u64,
}

/// Where a write starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// At this byte.
    Offset(u64),
    /// At the end of the file, whatever it is when the write happens.
    End,
}

/// What the engine promises now, as sequence numbers of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Applied in memory.
    pub received: u64,
    /// In the journal or pack file: survives the death of this process.
    pub journalled: u64,
    /// Durable in the volume's class: survives power loss.
    pub stored: u64,
}

/// A volume as a filesystem.
#[async_trait]
pub trait Tree: Send + Sync {
    /// Attributes of the entry `name` of `parent`.
    async fn lookup(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr>;
    /// Attributes of an inode.
    async fn getattr(&self, cx: &Caller, ino: Ino) -> Result<Attr>;
    /// Changes attributes; a new size truncates or extends with a hole.
    async fn setattr(&self, cx: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr>;
    /// Makes a node under a new name. The group is the parent's when the parent is set-group-id (and a new directory
    /// inherits that bit). `Exists` when the name is taken.
    async fn create(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        owner: (u32, u32),
        node: &NewNode,
    ) -> Result<Attr>;
    /// Another name for a file (never a directory). Across a share's boundary: `CrossDevice`.
    async fn link(&self, cx: &Caller, ino: Ino, parent: Ino, name: &Name) -> Result<Attr>;
    /// Removes a name that is no directory; returns the inode and what is left of it (`nlink` 0: an orphan, kept while pinned).
    async fn unlink(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr>;
    /// Removes an empty directory; returns its last attributes.
    async fn rmdir(&self, cx: &Caller, parent: Ino, name: &Name) -> Result<Attr>;
    /// Renames in constant time. Returns the moved inode and, when one was replaced or exchanged, that one.
    /// A directory never goes below itself (`Invalid`).
    async fn rename(
        &self,
        cx: &Caller,
        parent: Ino,
        name: &Name,
        new_parent: Ino,
        new_name: &Name,
        mode: RenameMode,
    ) -> Result<Renamed>;
    /// Target of a symlink.
    async fn readlink(&self, cx: &Caller, ino: Ino) -> Result<Bytes>;
    /// A page of a directory after `cursor` (see [`DirEntry::cursor`]), at most `limit` entries; `true` when nothing follows.
    async fn readdir(
        &self,
        cx: &Caller,
        ino: Ino,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)>;
    /// Reads up to `size` bytes; holes read as zeros; shorter only at the end of the file. Returns the inode's version with it.
    async fn read(&self, cx: &Caller, ino: Ino, offset: u64, size: u32) -> Result<(Vec<Bytes>, u64)>;
    /// Writes all of `data`; returns where it began and the attributes after it. `stamp` is the writer's mtime.
    async fn write(
        &self,
        cx: &Caller,
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        stamp: Option<Time>,
        clear_suid_sgid: bool,
    ) -> Result<(u64, Attr)>;
    /// Reserve, punch or zero a range.
    async fn allocate(&self, cx: &Caller, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<Attr>;
    /// Next data or hole; `Range` (`ENXIO`) past the end, and for data when none follows.
    async fn seek(&self, cx: &Caller, ino: Ino, offset: u64, what: Seek) -> Result<u64>;
    /// Copies a range inside the volume by reference; returns bytes copied (short at the source's end, and where offsets
    /// within blocks differ, so that bytes go through memory: at most 64 MiB) and the target's attributes.
    async fn copy_range(
        &self,
        cx: &Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        length: u64,
    ) -> Result<(u64, Attr)>;
    /// An extended attribute's value; `NoAttribute` when it is not there.
    async fn getxattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<Bytes>;
    /// Names of all extended attributes.
    async fn listxattr(&self, cx: &Caller, ino: Ino) -> Result<Vec<Bytes>>;
    /// Sets an extended attribute.
    async fn setxattr(&self, cx: &Caller, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode)
    -> Result<()>;
    /// Removes an extended attribute.
    async fn removexattr(&self, cx: &Caller, ino: Ino, name: &[u8]) -> Result<()>;
    /// Space and inodes.
    async fn statfs(&self, cx: &Caller) -> Result<VolumeStat>;

    /// Keeps an inode alive though its last name may go (an open handle). Counted.
    async fn pin(&self, cx: &Caller, ino: Ino) -> Result<Attr>;
    /// Undoes one [`Tree::pin`]; the last one of an orphan frees it.
    async fn unpin(&self, ino: Ino) -> Result<()>;
    /// Frees every orphan that nothing pins: called once after opening, when the sessions of before the restart have
    /// reclaimed their handles.
    async fn purge_orphans(&self) -> Result<u64>;

    /// Makes this inode's data and every namespace operation before the call durable.
    async fn fsync(&self, cx: &Caller, ino: Ino) -> Result<()>;
    /// Makes everything durable.
    async fn sync(&self) -> Result<()>;
    /// Where durability stands.
    fn watermarks(&self) -> Watermarks;
    /// The directory a path (whole components, no leading slash) leads to, without following symlinks. For shares' roots.
    async fn resolve(&self, path: &[u8]) -> Result<Attr>;
}

/// What a rename did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The inode that moved, after it.
    pub moved: Attr,
    /// The inode that was replaced (`nlink` after it) or exchanged.
    pub other: Option<Attr>,
}

/// What S3 knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key it is listed under, relative to the caller's root.
    pub key: Bytes,
    /// The inode that holds its bytes.
    pub ino: Ino,
    /// The inode's version the rest belongs to.
    pub version: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of content.
    pub modified: Time,
    /// Without quotes. MD5 hex for a single PUT, `<hex>-<parts>` for multipart, `<hash of (inode, version)>-1` for files
    /// written in a mount.
    pub etag: String,
    /// Headers and user metadata, as given.
    pub meta: ObjectMeta,
    /// It is a directory made by mkdir, shown as an empty `dir/` object.
    pub marker: bool,
}

/// Headers kept with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ObjectMeta {
    /// Standard headers that were given: lower-case name (`content-type`, `cache-control`, `content-disposition`,
    /// `content-encoding`, `content-language`, `expires`) and value.
    pub headers: Vec<(String, String)>,
    /// `x-amz-meta-*` without the prefix, lower-case, and value. At most 2 KiB in all.
    pub user: Vec<(String, String)>,
    /// Checksums that were given and verified: algorithm (`crc32`, `crc32c`, `crc64nvme`, `sha1`, `sha256`) and base64 value.
    pub checksums: Vec<(String, String)>,
}

/// When a PUT or DELETE is to be refused with `PreconditionFailed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match`: an object with this ETag must be there (`*`: any).
    pub if_match: Option<String>,
    /// `If-None-Match`: no object with this ETag may be there (`*`: none at all).
    pub if_none_match: Option<String>,
}

/// Bytes on their way to an object: an inode without a name. Dropped uploads are purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Staged {
    /// The nameless inode; written with [`Objects::stage_write`].
    pub ino: Ino,
}

/// How a listing is asked for. Keys are relative to the caller's root.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only keys that begin with these bytes.
    pub prefix: Vec<u8>,
    /// Roll up what lies below the first delimiter after the prefix. `/` is a walk of one directory; others are filtered.
    pub delimiter: Option<Vec<u8>>,
    /// Only keys (and prefixes) after these bytes.
    pub after: Vec<u8>,
    /// At most this many keys and prefixes together (1,000 at S3).
    pub limit: usize,
}

/// A page of a listing, in byte order of keys.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Keys.
    pub objects: Vec<ObjectInfo>,
    /// Common prefixes.
    pub prefixes: Vec<Bytes>,
    /// Continue after this, or `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// 1 to 10,000.
    pub number: u16,
    /// Bytes.
    pub size: u64,
    /// MD5 hex.
    pub etag: String,
    /// Checksums given with it.
    pub checksums: Vec<(String, String)>,
    /// When it was stored.
    pub modified: Time,
}

/// One multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// Random, unguessable.
    pub id: String,
    /// The key it is for, relative to the caller's root.
    pub key: Bytes,
    /// When it began.
    pub started: Time,
    /// What the object will carry.
    pub meta: ObjectMeta,
}

/// The same tree as a bucket of objects. Keys are relative to the caller's root.
///
/// A key `a/b/c` is the file `c` in directory `b` in `a`. Directories made by a PUT are implicit: they vanish when the
/// last object under them is deleted through S3. Keys that are no paths (empty components, `.`/`..`, components over 255
/// bytes, an object `a/` with bytes, an object `a` beside a directory `a`) live in a side family, are merged into
/// listings in order and reached in a mount under an escaped name.
#[async_trait]
pub trait Objects: Tree {
    /// What is known of an object.
    async fn head(&self, cx: &Caller, key: &[u8]) -> Result<ObjectInfo>;
    /// Starts an upload of bytes: a nameless inode.
    async fn stage(&self, cx: &Caller) -> Result<Staged>;
    /// Appends to it.
    async fn stage_write(&self, cx: &Caller, staged: Staged, data: Bytes) -> Result<()>;
    /// Forgets it.
    async fn stage_abort(&self, cx: &Caller, staged: Staged) -> Result<()>;
    /// Gives it the key: atomically, durably, with directories as needed; a file that was there is replaced by the new
    /// inode (open handles keep the old bytes; mode and owner are inherited). Returns the new object and the parent
    /// directories and inode it touched, for the gateway's leases.
    async fn put(
        &self,
        cx: &Caller,
        staged: Staged,
        key: &[u8],
        etag: String,
        meta: ObjectMeta,
        when: &Condition,
    ) -> Result<Put>;
    /// Deletes an object (durably); deleting what is not there is success (`None`).
    async fn delete(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>>;
    /// [`Self::delete`] for who deletes many: where the answer says that it is not durable, the next [`Tree::sync`] makes
    /// it so, once for all of them.
    async fn delete_one_of_many(&self, cx: &Caller, key: &[u8], when: &Condition) -> Result<Option<Deleted>> {
        self.delete(cx, key, when).await
    }
    /// Copies an object by reference within the volume into a staged inode; finish with [`Objects::put`].
    async fn stage_copy(
        &self,
        cx: &Caller,
        source: Ino,
        offset: u64,
        length: u64,
        staged: Staged,
    ) -> Result<()>;
    /// A page of keys.
    async fn list(&self, cx: &Caller, query: &ListQuery) -> Result<ListPage>;
    /// Names of the snapshots in which this caller finds objects under `.snapshots/NAME/`, newest first. A share shows
    /// none.
    async fn snapshot_names(&self, cx: &Caller) -> Result<Vec<String>>;
    /// Starts a multipart upload (durable).
    async fn upload_create(&self, cx: &Caller, key: &[u8], meta: ObjectMeta) -> Result<UploadInfo>;
    /// The upload, if it is for this key.
    async fn upload_get(&self, cx: &Caller, key: &[u8], id: &str) -> Result<UploadInfo>;
    /// Stores a staged inode as a part, replacing one of that number (durable).
    async fn upload_part(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        part: PartInfo,
        staged: Staged,
    ) -> Result<()>;
    /// Parts after `after`, in order.
    async fn upload_parts(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)>;
    /// Uploads under way with this prefix, after (key, id).
    async fn uploads(
        &self,
        cx: &Caller,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<UploadInfo>, bool)>;
    /// Joins the named parts in order, by reference, and puts the result under the key. Repeating it after success
    /// returns the same object.
    async fn upload_complete(
        &self,
        cx: &Caller,
        key: &[u8],
        id: &str,
        parts: &[(u16, String)],
        checksums: Vec<(String, String)>,
        when: &Condition,
    ) -> Result<Put>;
    /// Forgets an upload and its parts.
    async fn upload_abort(&self, cx: &Caller, key: &[u8], id: &str) -> Result<()>;
}

/// What a PUT changed.
#[derive(Clone, Debug)]
pub struct Put {
    /// The object now.
    pub object: ObjectInfo,
    /// The inode that had the key before.
    pub replaced: Option<Ino>,
    /// Directories whose entries changed.
    pub touched: Vec<Ino>,
}

/// What a DELETE changed.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The inode that lost its key.
    pub ino: Ino,
    /// Directories whose entries changed (emptied implicit parents included).
    pub touched: Vec<Ino>,
    /// It survives loss of power; otherwise after the next [`Tree::sync`].
    pub durable: bool,
}

/// A snapshot of a volume: all of it as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Tells it apart in inode numbers of a mount (1 to 0xFFFE). Unique while the snapshot exists; after a snapshot is
    /// removed its number is the last to be given again.
    pub view: u16,
    /// Its name: 1 to 255 bytes of UTF-8 without `/`, not `.` or `..`.
    pub name: String,
    /// When it was taken.
    pub created: Time,
    /// Inodes of the volume at that time.
    pub inodes: u64,
    /// Blocks of 4 KiB that files held at that time.
    pub blocks: u64,
}

/// Snapshots of a volume. Taking and restoring one takes constant time; what it costs is paid by later changes.
///
/// Whether the caller may is asked once for the volume as a whole: `Write` to take, remove and restore (never for a
/// confined caller, who gets `AccessDenied`), `List` to see. Every name is checked; a bad one is `Invalid` or
/// `NameTooLong`.
#[async_trait]
pub trait Snapshots: Objects {
    /// Takes a snapshot of everything that was acknowledged before the call. Durable on return. `Exists` when the name
    /// is taken.
    async fn snapshot_create(&self, cx: &Caller, name: &str) -> Result<SnapshotInfo>;
    /// All snapshots, in the order of their names.
    async fn snapshots(&self, cx: &Caller) -> Result<Vec<SnapshotInfo>>;
    /// Removes a snapshot. Durable on return; what only it needed is freed in the background. `NotFound` when there is
    /// none of that name.
    async fn snapshot_remove(&self, cx: &Caller, name: &str) -> Result<()>;
    /// Makes the volume what it was, at once and as a whole; the snapshot stays, and so do all others. Durable on return.
    ///
    /// What was made since is gone: its inodes are `Stale`, for open handles too, and their numbers are never given
    /// again. Inodes that are in the snapshot have their old content, names, times and **version**, which may be lower than
    /// before. So whoever caches anything of this volume (leases, attributes, pages, listings, ETags) must let go of all
    /// of it: the caller recalls every lease and has unsent writes handed in or thrown away before the call, and grants
    /// nothing until it has returned. Multipart uploads under way are given up, also when the call fails.
    async fn snapshot_restore(&self, cx: &Caller, name: &str) -> Result<()>;
    /// The volume as it was. Every method that changes something is refused with `ReadOnly`; authority is asked as
    /// ever, and inode numbers are those of the volume at that time. Once the snapshot is removed everything in the view
    /// is `Stale`.
    async fn snapshot_view(&self, cx: &Caller, name: &str) -> Result<Arc<dyn Objects>>;
}
