//! The project's commands: demo, test, bench, tidy.
fn main() {}
