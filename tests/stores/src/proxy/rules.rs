//! What goes wrong, and how often.

use std::ops::Sub;

use fastrand::Rng;
use hyper::Method;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status is answered, and nothing is done.
    Answer(u16),
    /// There is no answer, ever.
    Hang,
    /// It is carried out, and the connection ends instead of the answer.
    Lose,
    /// The connection ends in the middle of what is sent.
    CutRequest,
    /// The connection ends in the middle of what is answered.
    CutAnswer,
    /// The body ends too soon, without a reset.
    Short,
    /// A byte of an object that is read is another.
    Wrong,
}

/// What goes wrong now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Each fault with its share of the requests, from 0 to 1.
    pub faults: Vec<(Fault, f64)>,
    /// How fast bodies pass, each.
    pub bytes_per_second: Option<u64>,
    /// Nothing passes: connections are cut, new ones too.
    pub out: bool,
}

impl Rules {
    /// Nothing goes through.
    pub fn out() -> Rules {
        Rules { out: true, ..Rules::default() }
    }

    /// One fault, for a share of the requests.
    pub fn of(fault: Fault, share: f64) -> Rules {
        Rules { faults: vec![(fault, share)], ..Rules::default() }
    }

    /// Another fault besides.
    #[must_use]
    pub fn and(mut self, fault: Fault, share: f64) -> Rules {
        self.faults.push((fault, share));
        self
    }

    /// Every body passes at this speed.
    #[must_use]
    pub fn slow(mut self, bytes_per_second: u64) -> Rules {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    pub(super) fn fate(&self, random: &mut Rng, method: &Method, path: &str) -> Fate {
        let mut at = random.f64();
        for (fault, share) in &self.faults {
            if at < *share {
                return Fate::of(*fault, method, path);
            }
            at -= share;
        }
        Fate::Fair
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fair,
    Answered(u16),
    Hung,
    Lost,
    CutRequest,
    CutAnswer,
    Short,
    Wrong,
}

impl Fate {
    fn of(fault: Fault, method: &Method, path: &str) -> Fate {
        // A listing has no object's bytes; who reads one knows by its form that it is whole.
        let object = *method == Method::GET && path.trim_matches('/').contains('/');
        match fault {
            Fault::Answer(status) => Fate::Answered(status),
            Fault::Hang => Fate::Hung,
            Fault::Lose => Fate::Lost,
            Fault::CutRequest if *method == Method::PUT => Fate::CutRequest,
            Fault::CutRequest => Fate::Lost,
            Fault::CutAnswer => Fate::CutAnswer,
            Fault::Short if object => Fate::Short,
            Fault::Wrong if object => Fate::Wrong,
            Fault::Short | Fault::Wrong => Fate::Fair,
        }
    }
}

/// What came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUT and POST requests, but for those that delete.
    pub puts: u64,
    /// GET requests.
    pub gets: u64,
    /// The others: deletes, and questions for an object's head.
    pub others: u64,
    /// Bytes of bodies towards the store.
    pub sent: u64,
    /// Bytes of bodies from the store.
    pub received: u64,
    /// Requests and connections that something was done to.
    pub faults: u64,
}

impl Counts {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.others
    }
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, earlier: Counts) -> Counts {
        Counts {
            puts: self.puts - earlier.puts,
            gets: self.gets - earlier.gets,
            others: self.others - earlier.others,
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
            faults: self.faults - earlier.faults,
        }
    }
}
