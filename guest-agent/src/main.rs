//! Mounts a tenant's buckets in a VM. See the library for how.

fn main() -> std::process::ExitCode {
    mooring_agent::cli::main()
}
