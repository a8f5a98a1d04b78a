//! A gateway's core in a process of its own, to be killed. The process is the test binary itself, told by its
//! environment to run the test named `gateway_process`, which calls [`serve_if_asked`].

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mooring_gateway::core::limits::Limits;
use mooring_store::failpoints::{Point, Strike, arm};

use super::World;

const DIR: &str = "MOORING_TEST_CORE_DIR";
const READY: &str = "the gateway is ready";
const ARMED: &str = "the gateway dies at";

/// Serves until it is killed, when this is that process.
pub async fn serve_if_asked() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let _world = if dir.join("data").exists() {
        World::again(dir, None).await
    } else {
        World::furnish(dir, None, Limits::default()).await
    };
    println!("{READY}");
    let orders = std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let point = Point::parse(&line).expect("a point of the store");
            arm(point, Strike::Kill, 1);
            println!("{ARMED} {point:?}");
        }
    });
    std::future::pending::<()>().await;
    drop(orders);
}

pub struct Gateway {
    child: Child,
    orders: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Gateway {
    pub fn start(dir: &Path) -> Gateway {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["gateway_process", "--exact", "--nocapture"])
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut gateway = Gateway { orders: child.stdin.take().unwrap(), child, says };
        gateway.hear(READY);
        gateway
    }

    fn hear(&mut self, words: &str) {
        let heard = self.says.by_ref().map_while(Result::ok).any(|line| line.contains(words));
        assert!(heard, "the gateway ended before it said `{words}`");
    }

    /// It kills itself when it next passes this point.
    pub fn dies_at(&mut self, point: Point) {
        writeln!(self.orders, "{point:?}").unwrap();
        self.hear(ARMED);
    }

    /// Waits until it is dead.
    pub fn wait(mut self) {
        self.child.wait().unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Dead already when it was killed on purpose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
