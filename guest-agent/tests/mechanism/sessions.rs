//! Connections that break, sessions that end, and a gateway that does not answer.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::stage::{Stage, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_broken_connection_is_taken_up_again_and_nothing_is_done_twice() {
    let stage = Stage::set(&[false, false], LIMIT);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whenever the agent is there again, it is cut off once more.
            while !done.load(Ordering::SeqCst) {
                if stage.agents[0].status().connected {
                    stage.gateway.cut(0);
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        let mut log = OpenOptions::new().append(true).create(true).open(stage.at(0).join("log")).unwrap();
        for n in 0..100 {
            log.write_all(b"x").unwrap();
            File::create_new(stage.at(0).join(format!("n{n}"))).unwrap();
            if n % 2 == 0 {
                fs::remove_file(stage.at(0).join(format!("n{n}"))).unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(stage.agents[0].status().connections > 3, "the connection was broken more than once");
    assert_eq!(fs::read(stage.at(1).join("log")).unwrap().len(), 100, "each append was done once");
    assert_eq!(fs::read_dir(stage.at(1)).unwrap().count(), 51, "each create and each unlink was done once");
}

#[test]
fn what_an_evicted_session_had_not_handed_over_is_refused() {
    let stage = Stage::set(&[false, false], LIMIT);
    let path = stage.at(0).join("file");
    fs::write(&path, b"before").unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    // Nothing is handed over while the gateway is mute, so this is still in the agent when the session ends.
    stage.gateway.mute(true);
    file.write_all(b"after!").unwrap();
    stage.gateway.mute(false);
    stage.gateway.evict(0);
    wait_for("a new session", || {
        stage.agents[0].status().connections == 2 && stage.agents[0].status().connected
    });

    let error = file.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "unsent writes are an error, not silence");
    assert_eq!(stage.gateway.content("file").unwrap(), b"before", "and are never merged later");
    let error = file.write_all(b"again").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "the open file belonged to the old session");
    // The mount goes on in the new session.
    assert_eq!(fs::read(&path).unwrap(), b"before");
    fs::write(&path, b"anew").unwrap();
    assert_eq!(fs::read(stage.at(1).join("file")).unwrap(), b"anew");
}

#[test]
fn what_is_written_is_handed_over_without_being_asked_for() {
    let stage = Stage::set(&[false], LIMIT);
    let mut file = File::create(stage.at(0).join("file")).unwrap();
    file.write_all(b"content").unwrap();
    assert_eq!(stage.agents[0].status().unsent_bytes, 7, "gathered, and counted as what would be lost");
    wait_for("the hand-over", || stage.gateway.content("file").is_some_and(|c| c == b"content"));
    wait_for("the count", || stage.agents[0].status().unsent_bytes == 0);
}

#[test]
fn a_program_that_waits_for_a_silent_gateway_can_be_killed() {
    let stage = Stage::set(&[false], LIMIT);
    fs::write(stage.at(0).join("file"), b"content").unwrap();
    stage.gateway.mute(true);
    // A name that was never looked up, so that the gateway has to be asked.
    let mut child = std::process::Command::new("stat")
        .arg(stage.at(0).join("never-seen"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the request", || stage.agents[0].status().waiting.0 > 0);
    child.kill().unwrap();
    wait_for("the end of the program", || child.try_wait().unwrap().is_some());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "it was killed, not answered");
    stage.gateway.mute(false);
    // What it had asked is never answered, but nobody waits for that; others go on.
    assert_eq!(fs::metadata(stage.at(0).join("other")).unwrap_err().kind(), ErrorKind::NotFound);
}
