//! Real mounts in this machine, each with an agent of its own, on one gateway in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mooring_agent::agent::{Agent, AgentOptions};
use mooring_agent::fuse::MountOptions;
use mooring_agent::remote::Target;

use super::gateway::Gateway;

pub struct Stage {
    pub gateway: Arc<Gateway>,
    pub agents: Vec<Arc<Agent>>,
    pub mounts: Vec<PathBuf>,
    runtime: tokio::runtime::Runtime,
    done: Arc<AtomicBool>,
    dir: tempfile::TempDir,
}

impl Stage {
    /// One guest for each entry; `true` mounts read-only. A test that is not done after `limit` is stuck: the process
    /// says what it waits for and ends.
    pub fn set(read_only: &[bool], limit: Duration) -> Stage {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let _in_runtime = runtime.enter();
        let (gateway, sockets) = Gateway::serve(dir.path(), read_only);
        let mut agents = Vec::new();
        let mut mounts = Vec::new();
        for (i, socket) in sockets.into_iter().enumerate() {
            let root = dir.path().join(format!("guest-{i}"));
            let agent = Agent::start(AgentOptions {
                gateway: mooring_agent::remote::Gateway {
                    target: Target::Unix(socket),
                    ca: None,
                    token: None,
                },
                root: root.clone(),
                write_budget: 8 << 20,
                close_sync: false,
                mount: MountOptions::default(),
            });
            wait_for("a mount", || agent.status().mounts.iter().any(|m| m.mounted));
            agents.push(agent);
            mounts.push(root.join("data"));
        }
        let done = Arc::new(AtomicBool::new(false));
        watch(done.clone(), agents.clone(), limit);
        drop(_in_runtime);
        Stage { gateway, agents, mounts, runtime, done, dir }
    }

    /// The mount of a guest.
    pub fn at(&self, guest: usize) -> &Path {
        &self.mounts[guest]
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for agent in &self.agents {
            self.runtime.block_on(agent.stop());
        }
        self.done.store(true, Ordering::Relaxed);
        let _ = &self.dir;
    }
}

/// Waits for a condition, with a limit.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited 20 s for {what}");
        std::thread::yield_now();
    }
}

/// Threads in system calls on a mount that hangs cannot be stopped, so the whole process ends.
fn watch(done: Arc<AtomicBool>, agents: Vec<Arc<Agent>>, limit: Duration) {
    std::thread::spawn(move || {
        let began = Instant::now();
        while !done.load(Ordering::Relaxed) {
            if began.elapsed() > limit {
                for agent in &agents {
                    let status = agent.status();
                    eprintln!("stuck: {status:#?}");
                    // A thread that waits for an answer of its own process would outlive even SIGKILL; by force
                    // the kernel answers it.
                    for mount in &status.mounts {
                        let _ = rustix::mount::unmount(&mount.path, rustix::mount::UnmountFlags::FORCE);
                    }
                }
                std::process::exit(101);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
