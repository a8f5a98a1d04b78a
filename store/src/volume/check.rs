//! stub
/// A finding.
pub struct Finding;
/// A report.
pub struct Report;
