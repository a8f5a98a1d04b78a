//! Every limit of the protocol, in one place, with a name, a unit and a reason.
//!
//! A limit here is checked where hostile bytes or requests enter, before anything is allocated or
//! queued for them. Both sides compile the same numbers, so an honest peer never meets one by surprise.

use std::time::Duration;

/// Bytes of payload in one frame: 1 MiB.
///
/// The kernel's largest FUSE write and read (`fs.fuse.max_pages_limit` = 256 pages) is 1 MiB, and a
/// payload is never split, so one request is one frame.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes of serialised message in one frame: 256 KiB.
///
/// Large enough for a page of directory entries or a batch of small operations, small enough that the
/// worst amplification by decoding stays in the tens of megabytes.
pub const MAX_BODY: usize = 256 << 10;

/// Bytes of the first message of a connection: 16 KiB.
///
/// Before the peer is known it may cost us only this much; a token is under 4 KiB.
pub const MAX_HELLO_BODY: usize = 16 << 10;

/// Bytes of a file name: 255, as Linux has it.
pub const MAX_NAME: usize = 255;

/// Bytes of an object key or of a path from a bucket's root: 1,024, as S3 has it.
pub const MAX_KEY: usize = 1024;

/// Bytes of a symbolic link's target: `PATH_MAX` less its NUL.
pub const MAX_SYMLINK: usize = 4095;

/// Bytes of an extended attribute's name (`XATTR_NAME_MAX`).
pub const MAX_XATTR_NAME: usize = 255;

/// Bytes of an extended attribute's value (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE: usize = 64 << 10;

/// Hard links to one inode: what ext4 allows, so that tools which probe for it find a known number.
pub const MAX_LINKS: u32 = 65_000;

/// Bytes of a file: 2^52 less one block, well inside `i64` with room for arithmetic on 4 KiB blocks.
pub const MAX_FILE_SIZE: u64 = (1 << 52) - 4096;

/// Bytes one `CopyRange` copies at most; its answer says how many, and the program asks for the rest. What Linux does in
/// one read or write (`MAX_RW_COUNT`): the work of one request stays bounded, however long the hole it is asked to copy.
pub const MAX_COPY: u64 = 0x7fff_f000;

/// Operations in one batch. Each is an entry in memory of some hundreds of bytes.
pub const MAX_BATCH_OPS: usize = 1024;

/// Requests of one session that the gateway holds at once; the next one is not read from the stream.
///
/// Twice the kernel's usual `max_background` and threads together.
pub const MAX_IN_FLIGHT: usize = 256;

/// Bytes of payload that one session's requests may hold in the gateway at once.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;

/// Leases one session may hold behind one door; near it the oldest are recalled for the newest. At about 250 bytes each
/// the worst guest costs the gateway 64 MiB.
pub const MAX_LEASES: usize = 256 << 10;

/// Recalls under way at once that only make room for newer leases: a quarter of what may be queued, so that recalls
/// others wait for are never refused for them.
pub const MAX_SHEDDING: usize = MAX_QUEUED_NOTICES / 4;

/// Open handles of one session. Beyond it `open` answers ENFILE; a Linux guest's own default is near it.
pub const MAX_HANDLES: usize = 64 << 10;

/// Byte-range locks of one session over all inodes.
pub const MAX_LOCKS: usize = 16 << 10;

/// Byte-range locks on one inode over all owners: the walk of one lock request stays short.
pub const MAX_LOCKS_PER_INODE: usize = 4096;

/// Lock requests that wait on one inode.
pub const MAX_LOCK_WAITERS: usize = 1024;

/// Lease requests that wait on one inode; the next one is answered [`Status::Overloaded`].
///
/// [`Status::Overloaded`]: crate::status::Status::Overloaded
pub const MAX_LEASE_WAITERS: usize = 1024;

/// Notices (recalls and barriers) queued for one session. A session that lets more pile up does not
/// answer at all, and is evicted.
pub const MAX_QUEUED_NOTICES: usize = 4096;

/// Answers kept for replay per session: every request in flight can be answered again after a
/// reconnect, and as many just finished.
pub const REPLY_CACHE_ENTRIES: usize = 2 * MAX_IN_FLIGHT;

/// Bytes of one answer kept for replay. Only answers to operations that change something are kept, and
/// they carry at most one set of attributes; the whole cache is so under 512 KiB a session.
pub const MAX_CACHED_REPLY: usize = 1 << 10;

/// Ranges one holder remembers as read while it is being recalled; beyond it the whole file is
/// invalidated.
pub const MAX_TRACKED_RANGES: usize = 64;

/// Rounds of re-invalidation before a holder stops handing out reads during a recall.
pub const MAX_INVALIDATE_ROUNDS: u32 = 8;

/// Sessions of one volume, and of one VM's connection.
pub const MAX_SESSIONS: usize = 4096;

/// How long a session of the owner's tenant may take to answer a recall.
pub const RECALL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a grantee's session may take: nobody waits on a stranger's guest.
pub const FOREIGN_RECALL_DEADLINE: Duration = Duration::from_millis(200);

/// How long a gateway that has restarted waits for its sessions to reclaim.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long a session may be without a connection before it is evicted, when nobody waits for what it
/// holds. Who does wait evicts it by the recall deadline.
pub const DISCONNECTED: Duration = Duration::from_secs(60);

/// The oldest a change may become in the agent before it is handed over.
pub const HAND_OVER_AGE: Duration = Duration::from_secs(1);

/// How long a connection may take from its first byte to a whole `Hello`.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// The longest deadline a request may carry; longer ones are cut to it.
pub const MAX_REQUEST_DEADLINE: Duration = Duration::from_secs(600);
