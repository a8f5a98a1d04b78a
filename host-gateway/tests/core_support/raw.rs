//! A guest that sends what the test says and reads when the test says: for what no honest agent does.

use std::path::Path;
use std::time::Duration;

use mooring_protocol::frame::{Frame, FrameReader, Header, Kind, Side};
use mooring_protocol::message::{Answer, Hello, Reply, Request, Resume, Welcome};
use mooring_protocol::status::Status;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::LIMIT;
use super::agent::send;

pub struct Raw {
    pub welcome: Welcome,
    pub write: OwnedWriteHalf,
    reader: FrameReader<OwnedReadHalf>,
}

pub fn hello() -> Hello {
    Hello { versions: (1, 1), agent: "x".into(), boot: [9; 16], enrolment: None, token: None, resume: None }
}

impl Raw {
    pub async fn connect(path: &Path) -> Raw {
        Raw::greet(path, &hello()).await.unwrap()
    }

    pub async fn resume(path: &Path, (resume, boot): (Resume, [u8; 16])) -> Raw {
        Raw::greet(path, &Hello { boot, resume: Some(resume), ..hello() }).await.unwrap()
    }

    pub async fn greet(path: &Path, hello: &Hello) -> Result<Raw, Status> {
        let (read, mut write) = UnixStream::connect(path).await.unwrap().into_split();
        send(&mut write, &Header::new(Kind::Hello), hello, &[]).await;
        let mut reader = FrameReader::new(read, Side::Agent);
        let first = tokio::time::timeout(LIMIT, reader.next()).await.unwrap().unwrap().unwrap();
        if first.header.kind != Kind::Welcome {
            return Err(first.header.status);
        }
        reader.open();
        Ok(Raw { welcome: first.message().unwrap(), write, reader })
    }

    pub fn header(&self, request: u64) -> Header {
        let (volume, epoch) = (self.welcome.doors[0].id, self.welcome.epoch);
        Header { volume, epoch, request, ..Header::new(Kind::Request) }
    }

    pub async fn frame<B: serde::Serialize>(&mut self, header: &Header, body: &B, payload: &[u8]) {
        send(&mut self.write, header, body, payload).await;
    }

    pub async fn send(&mut self, id: u64, request: &Request) {
        let header = self.header(id);
        self.frame(&header, request, &[]).await;
    }

    pub async fn next(&mut self) -> Frame {
        tokio::time::timeout(LIMIT, self.reader.next()).await.expect("a frame in time").unwrap().unwrap()
    }

    /// The answer to this request; notices before it are skipped, other answers are not.
    async fn answer_frame(&mut self, id: u64) -> Frame {
        loop {
            let frame = self.next().await;
            if frame.header.kind == Kind::Reply {
                assert_eq!(frame.header.request, id);
                return frame;
            }
        }
    }

    pub async fn answer(&mut self, id: u64) -> Status {
        self.answer_frame(id).await.header.status
    }

    pub async fn reply(&mut self, id: u64) -> Option<Reply> {
        let frame = self.answer_frame(id).await;
        (frame.header.status == Status::Ok).then(|| frame.message::<Answer>().unwrap().reply)
    }

    /// Nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.reader.next()).await.is_err()
    }

    /// The gateway closes the stream by itself; what it said before is read and dropped.
    pub async fn ends_cut_off(mut self) {
        let end = async {
            // A reset is as good an end as any.
            while let Ok(Some(_)) = self.reader.next().await {}
        };
        tokio::time::timeout(LIMIT, end).await.expect("cut off in time");
    }
}
