//! VM images: guests built reproducibly from Debian packages.
