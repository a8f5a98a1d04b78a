//! `mooring-gateway`: see [`mooring_gateway::cli`].

fn main() -> std::process::ExitCode {
    mooring_gateway::cli::main()
}
