//! The one table of outcomes: wire number, errno of a mount, code and HTTP status of S3.
//!
//! Every door answers through this table, so that the same failure looks the same in a mount and over
//! S3, and no operation invents its own translation. Wire numbers are never reused; new ones go to the end.
//!
//! Several outcomes share an errno (the kernel has no word for "fenced"). Coming back from an errno or
//! an S3 code, the first row that has it is meant.

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $wire:literal, $errno:ident, $code:literal, $http:literal;)+) => {
        /// Outcome of an operation. See the module's table for how it reads at each door.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Status {
            $($(#[doc = $doc])+ $name = $wire,)+
        }

        impl Status {
            /// Every outcome, in the order of the table.
            pub const ALL: &'static [Status] = &[$(Status::$name,)+];

            /// The outcome with this wire number, if there is one.
            #[must_use]
            pub const fn from_wire(wire: u16) -> Option<Status> {
                match wire {
                    $($wire => Some(Status::$name),)+
                    _ => None,
                }
            }

            /// What a mount answers: a positive Linux errno, 0 for [`Status::Ok`].
            #[must_use]
            pub const fn errno(self) -> i32 {
                match self { $(Status::$name => errno::$errno,)+ }
            }

            /// The error code of an S3 answer; empty for [`Status::Ok`].
            #[must_use]
            pub const fn s3_code(self) -> &'static str {
                match self { $(Status::$name => $code,)+ }
            }

            /// The HTTP status of an S3 answer.
            #[must_use]
            pub const fn http(self) -> u16 {
                match self { $(Status::$name => $http,)+ }
            }

            /// The name, for metrics and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Status::$name => stringify!($name),)+ }
            }
        }
    };
}

/// The errnos of Linux, and zero for success.
mod errno {
    pub use libc::{
        E2BIG, EACCES, EAGAIN, EBADF, EBADMSG, EBUSY, ECANCELED, EDEADLK, EDQUOT, EEXIST, EFBIG, EINTR,
        EINVAL, EIO, EISDIR, ELOOP, EMLINK, ENAMETOOLONG, ENFILE, ENODATA, ENOENT, ENOLCK, ENOSPC, ENOSYS,
        ENOTDIR, ENOTEMPTY, ENXIO, EOPNOTSUPP, EPERM, EPROTO, EPROTONOSUPPORT, ERANGE, EREMCHG, EROFS,
        ESTALE, ETIMEDOUT, EXDEV,
    };
    pub const NONE: i32 = 0;
}

statuses! {
    /// Done.
    Ok = 0, NONE, "", 200;
    /// No such file, or nothing the caller may know about.
    NotFound = 1, ENOENT, "NoSuchKey", 404;
    /// The name is taken.
    Exists = 2, EEXIST, "BucketAlreadyExists", 409;
    /// A component that must be a directory is something else.
    NotDir = 3, ENOTDIR, "InvalidRequest", 400;
    /// The operation does not work on a directory.
    IsDir = 4, EISDIR, "InvalidRequest", 400;
    /// The directory or bucket still has entries.
    NotEmpty = 5, ENOTEMPTY, "BucketNotEmpty", 409;
    /// The caller knows the resource but may not do this to it.
    AccessDenied = 6, EACCES, "AccessDenied", 403;
    /// Only the file's owner may do this, or nobody (an immutable object).
    NotPermitted = 7, EPERM, "AccessDenied", 403;
    /// A snapshot, or a share without the write action.
    ReadOnly = 8, EROFS, "AccessDenied", 403;
    /// The store is full.
    NoSpace = 9, ENOSPC, "InsufficientStorage", 507;
    /// The quota of bucket or tenant is used up.
    QuotaExceeded = 10, EDQUOT, "QuotaExceeded", 403;
    /// A name over 255 bytes or a key over 1,024.
    NameTooLong = 11, ENAMETOOLONG, "KeyTooLongError", 400;
    /// An argument makes no sense.
    Invalid = 12, EINVAL, "InvalidArgument", 400;
    /// The two names lie in different volumes, or on the two sides of a share's boundary.
    CrossDevice = 13, EXDEV, "InvalidRequest", 400;
    /// The inode has as many links as it may.
    TooManyLinks = 14, EMLINK, "InvalidRequest", 400;
    /// The handle's object left the share or the bucket.
    Stale = 15, ESTALE, "OperationAborted", 409;
    /// The store failed; the gateway's log has the cause.
    Io = 16, EIO, "InternalError", 500;
    /// It would have to wait and the caller asked not to.
    WouldBlock = 17, EAGAIN, "OperationAborted", 409;
    /// In use.
    Busy = 18, EBUSY, "OperationAborted", 409;
    /// Waiting for this lock would close a circle of waiters.
    Deadlock = 19, EDEADLK, "OperationAborted", 409;
    /// The buffer offered is too small, or the byte range lies outside the object.
    Range = 20, ERANGE, "InvalidRange", 416;
    /// No such extended attribute, or no such tag set.
    NoAttribute = 21, ENODATA, "NoSuchTagSet", 404;
    /// The file or object would be too large.
    FileTooLarge = 22, EFBIG, "EntityTooLarge", 400;
    /// An extended attribute or the user metadata is too large.
    ArgumentTooLarge = 23, E2BIG, "MetadataTooLarge", 400;
    /// This object does not support the operation.
    Unsupported = 24, EOPNOTSUPP, "NotImplemented", 501;
    /// No object supports the operation; the kernel stops asking.
    NotImplemented = 25, ENOSYS, "NotImplemented", 501;
    /// The caller cancelled it.
    Interrupted = 26, EINTR, "OperationAborted", 409;
    /// The request's deadline passed.
    TimedOut = 27, ETIMEDOUT, "ServiceUnavailable", 503;
    /// The session was evicted: what it had not handed over is refused.
    Fenced = 28, EIO, "ServiceUnavailable", 503;
    /// A condition of the request did not hold.
    PreconditionFailed = 29, ECANCELED, "PreconditionFailed", 412;
    /// A conditional read found nothing newer.
    NotModified = 30, ECANCELED, "NotModified", 304;
    /// No identity, or a token that is unknown, forged or expired.
    Unauthenticated = 31, EACCES, "InvalidToken", 400;
    /// The grant was revoked.
    Revoked = 32, EACCES, "AccessDenied", 403;
    /// The tenant's or VM's rate is used up.
    TooManyRequests = 33, EAGAIN, "SlowDown", 503;
    /// A queue of the gateway is full.
    Overloaded = 34, EAGAIN, "SlowDown", 503;
    /// The peer speaks no version that we speak.
    VersionMismatch = 35, EPROTONOSUPPORT, "InvalidRequest", 400;
    /// Stored bytes failed their check; only this range is lost.
    Corrupt = 36, EIO, "InternalError", 500;
    /// Acknowledged but not yet durable writes went down with a host.
    WritesLost = 37, EIO, "InternalError", 500;
    /// Backend or gateway is away.
    Unavailable = 38, EIO, "ServiceUnavailable", 503;
    /// No such bucket, or none the caller may know about.
    NoSuchBucket = 39, ENOENT, "NoSuchBucket", 404;
    /// No such multipart upload.
    NoSuchUpload = 40, ENOENT, "NoSuchUpload", 404;
    /// Too many symbolic links on the way, or a directory moved below itself.
    Loop = 41, ELOOP, "InvalidRequest", 400;
    /// No data or hole at or after this offset.
    NoSuchOffset = 42, ENXIO, "InvalidRange", 416;
    /// No such open handle.
    BadHandle = 43, EBADF, "InvalidRequest", 400;
    /// The session or inode has as many locks as it may.
    TooManyLocks = 44, ENOLCK, "SlowDown", 503;
    /// The session has as many open handles as it may.
    TooManyHandles = 45, ENFILE, "SlowDown", 503;
    /// The checksum sent does not match the bytes sent.
    BadDigest = 46, EBADMSG, "BadDigest", 400;
    /// The peer broke the framing or the order of the protocol.
    Malformed = 47, EPROTO, "InvalidRequest", 400;
    /// Another gateway is the volume's home now.
    Moved = 48, EREMCHG, "TemporaryRedirect", 307;
    /// The gateway restarted and still waits for earlier sessions; ask again.
    InGrace = 49, EAGAIN, "ServiceUnavailable", 503;
    /// The gateway does not know the session any more; begin a new one.
    NoSession = 50, EIO, "ServiceUnavailable", 503;
    /// The token was good once and has expired.
    TokenExpired = 51, EACCES, "ExpiredToken", 400;
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        self as u16
    }

    /// Whether this is success.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        matches!(self, Status::Ok)
    }

    /// The outcome meant by an errno that came from below (a disk, a library).
    ///
    /// Zero is success; an errno outside the table is [`Status::Io`].
    #[must_use]
    pub fn from_errno(errno: i32) -> Status {
        // EWOULDBLOCK is EAGAIN and ENOTSUP is EOPNOTSUPP on Linux, so neither needs a row.
        Status::ALL.iter().copied().find(|s| s.errno() == errno).unwrap_or(Status::Io)
    }

    /// The outcome meant by an S3 error code that a backend sent.
    #[must_use]
    pub fn from_s3_code(code: &str) -> Option<Status> {
        Status::ALL.iter().copied().find(|s| !s.is_ok() && s.s3_code() == code)
    }

    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Status::TooManyRequests
                | Status::Overloaded
                | Status::InGrace
                | Status::Unavailable
                | Status::TimedOut
                | Status::Moved
        )
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
