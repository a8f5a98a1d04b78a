//! `mooring-gateway`: see [`mooring_gateway::cli`].

/// Buffers are made on one thread and freed on another, all day long. The C library's allocator keeps what was freed in an
/// arena for each thread; this one gives pages that stay unused back to the system, with a thread of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    mooring_gateway::cli::main()
}
