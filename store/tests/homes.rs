//! Home records under clocks that run apart, requests that are late, lost or answered to nobody, pauses and deaths: never
//! do two gateways think that they may serve, and there is soon one that does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use mooring_policy::rng::SystemRandom;
use mooring_store::backend::{Backing, StoreConfig};
use mooring_store::home::{Claim, HomeError, Homes, Look, RENEW, Renewal, Tenure, Verdict, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const POLL: u64 = 1_000;
const ASK_LIMIT: u64 = 4_000;
const GATEWAYS: usize = 3;

/// What a gateway asks of the store.
#[derive(Clone, Debug)]
enum Ask {
    Look,
    Claim(u64),
    Beat(u64, u64),
    Free(u64),
}

#[derive(Clone, Debug)]
enum Answer {
    Look(Option<Look>),
    Made(bool),
    None,
}

enum Phase {
    Down,
    Watching,
    Claiming(u64),
    /// Has claimed, and waits for who was before; or serves.
    Home {
        tenure: Tenure,
        renewal: Option<Renewal>,
        serves: bool,
    },
}

struct Gateway {
    rate: f64,
    offset: f64,
    phase: Phase,
    watch: Watch,
    /// On its own disk: the last epoch in which it served.
    served: Option<u64>,
    /// Answers to earlier questions are nobody's.
    asked: u64,
    paused: u64,
}

#[derive(Debug)]
enum Event {
    Wake(usize, u64),
    Effect(usize, u64, Ask, bool, u64),
    Answer(usize, u64, Answer),
    Crash(usize),
    Start(usize),
    Pause(usize, u64),
}

struct World {
    random: fastrand::Rng,
    now: u64,
    next: u64,
    events: BTreeMap<(u64, u64), Event>,
    names: BTreeSet<(u64, String)>,
    gateways: Vec<Gateway>,
    /// Faults happen until then.
    faults_until: u64,
    reigns: u64,
}

impl World {
    fn new(seed: u64, faults_until: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let gateways = (0..GATEWAYS).map(|_| Gateway {
            rate: 0.98 + random.f64() * 0.04,
            offset: random.f64() * 1e6,
            phase: Phase::Down,
            watch: Watch::default(),
            served: None,
            asked: 0,
            paused: 0,
        });
        let gateways = gateways.collect();
        let (events, names) = (BTreeMap::new(), BTreeSet::new());
        let mut world = World { random, now: 0, next: 0, events, names, gateways, faults_until, reigns: 0 };
        for gateway in 0..GATEWAYS {
            let delay = world.random.u64(0..3_000);
            world.at(delay, Event::Start(gateway));
        }
        world
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now + delay, self.next), event);
    }

    fn local(&self, gateway: usize) -> Duration {
        let g = &self.gateways[gateway];
        Duration::from_secs_f64((g.offset + self.now as f64 * g.rate) / 1e3)
    }

    fn serves(&self, gateway: usize) -> bool {
        let now = self.local(gateway);
        matches!(&self.gateways[gateway].phase, Phase::Home { tenure, serves: true, .. } if now < tenure.until())
    }

    fn must_be_one(&self) {
        let serving: Vec<usize> = (0..GATEWAYS).filter(|gateway| self.serves(*gateway)).collect();
        assert!(serving.len() <= 1, "{serving:?} serve at {} ms", self.now);
    }

    fn faulty(&mut self, percent: u64) -> bool {
        self.now < self.faults_until && self.random.u64(0..100) < percent
    }

    fn ask(&mut self, gateway: usize, ask: Ask) {
        self.gateways[gateway].asked += 1;
        let id = self.gateways[gateway].asked;
        let lost = self.faulty(4);
        let delay = if self.faulty(4) { self.random.u64(0..20_000) } else { self.random.u64(1..60) };
        if !lost {
            let answered = !self.faulty(4);
            self.at(delay, Event::Effect(gateway, id, ask, answered, self.now));
        }
        self.at(ASK_LIMIT, Event::Answer(gateway, id, Answer::None));
    }

    fn effect(&mut self, gateway: usize, id: u64, ask: Ask, answered: bool, asked_at: u64) {
        let answer = match ask {
            Ask::Look => Answer::Look(Look::at(self.names.iter().cloned())),
            Ask::Claim(epoch) => Answer::Made(self.names.insert((epoch, "claim".to_owned()))),
            Ask::Beat(epoch, beat) => Answer::Made(self.names.insert((epoch, format!("{beat:020}")))),
            Ask::Free(epoch) => Answer::Made(self.names.insert((epoch, "free".to_owned()))),
        };
        // Sometimes the same request arrives once more, much later.
        if answered && self.now - asked_at < ASK_LIMIT {
            let delay = self.random.u64(1..60);
            self.at(delay, Event::Answer(gateway, id, answer));
        }
    }

    fn run(&mut self, until: u64) {
        while let Some((&(at, _), _)) = self.events.first_key_value().filter(|((at, _), _)| *at <= until) {
            let ((at, number), event) = self.events.pop_first().map(|e| ((at, e.0.1), e.1)).unwrap();
            self.now = at;
            self.must_be_one();
            let paused = |gateway: usize| self.gateways[gateway].paused;
            let wait = match &event {
                Event::Wake(gateway, _) | Event::Answer(gateway, ..) => paused(*gateway),
                _ => 0,
            };
            if wait > self.now {
                self.events.insert((wait, number), event);
                continue;
            }
            self.take(event);
            self.must_be_one();
        }
        self.now = until;
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Wake(gateway, id) if id == self.gateways[gateway].asked => self.wake(gateway),
            Event::Answer(gateway, id, answer) if id == self.gateways[gateway].asked => {
                // From here on the limit's own answer is late.
                self.gateways[gateway].asked += 1;
                self.answered(gateway, answer);
            }
            Event::Effect(gateway, id, ask, answered, at) => self.effect(gateway, id, ask, answered, at),
            Event::Wake(..) | Event::Answer(..) => {}
            Event::Crash(gateway) => {
                let g = &mut self.gateways[gateway];
                (g.phase, g.asked) = (Phase::Down, g.asked + 1);
            }
            Event::Start(gateway) => {
                let g = &mut self.gateways[gateway];
                if matches!(g.phase, Phase::Down) {
                    (g.phase, g.watch) = (Phase::Watching, Watch::default());
                    self.ask(gateway, Ask::Look);
                }
            }
            Event::Pause(gateway, length) => self.gateways[gateway].paused = self.now + length,
        }
    }

    fn wake_after(&mut self, gateway: usize, delay: u64) {
        let id = self.gateways[gateway].asked;
        self.at(delay, Event::Wake(gateway, id));
    }

    fn wake(&mut self, gateway: usize) {
        let now = self.local(gateway);
        let ask = match &mut self.gateways[gateway].phase {
            Phase::Down => return,
            Phase::Watching | Phase::Claiming(_) => Ask::Look,
            Phase::Home { tenure, renewal, .. } => {
                let begun = tenure.begin(now);
                *renewal = Some(begun);
                Ask::Beat(tenure.epoch(), begun.beat)
            }
        };
        self.ask(gateway, ask);
    }

    fn watch_again(&mut self, gateway: usize, delay: u64) {
        self.gateways[gateway].phase = Phase::Watching;
        self.wake_after(gateway, delay);
    }

    fn answered(&mut self, gateway: usize, answer: Answer) {
        let now = self.local(gateway);
        let served = self.gateways[gateway].served;
        let g = &mut self.gateways[gateway];
        match (&mut g.phase, answer) {
            (Phase::Down, _) => {}
            (Phase::Watching, Answer::Look(look)) => {
                let own = look.as_ref().map(|look| look.epoch).filter(|epoch| served == Some(*epoch));
                match (own, g.watch.looked(now, look.as_ref())) {
                    (Some(own), _) => {
                        g.phase = Phase::Claiming(own + 1);
                        self.ask(gateway, Ask::Claim(own + 1));
                    }
                    (None, Verdict::Take(epoch)) => {
                        g.phase = Phase::Claiming(epoch);
                        self.ask(gateway, Ask::Claim(epoch));
                    }
                    (None, Verdict::Held { until, .. }) => {
                        let left = (until.saturating_sub(now).as_millis() as u64 + 1).min(POLL);
                        self.wake_after(gateway, left);
                    }
                }
            }
            (Phase::Claiming(_), Answer::Made(true)) => self.ask(gateway, Ask::Look),
            (Phase::Claiming(epoch), Answer::Look(Some(look))) if look.epoch == *epoch => {
                let tenure = Tenure::new(*epoch);
                g.phase = Phase::Home { tenure, renewal: None, serves: false };
                self.wake(gateway);
            }
            (Phase::Home { .. }, Answer::Made(_)) => self.ask(gateway, Ask::Look),
            (Phase::Home { tenure, renewal, serves }, Answer::Look(look)) => {
                let Some(begun) = renewal.take() else { return };
                if !tenure.confirm(begun, look.as_ref()) {
                    return self.watch_again(gateway, 10);
                }
                let epoch = tenure.epoch();
                let before = look.as_ref().and_then(|look| g.watch.is_over(epoch, now, look));
                let before = before.filter(|_| served != Some(epoch - 1));
                if !*serves && before.is_none() {
                    (*serves, g.served) = (true, Some(epoch));
                    self.reigns += 1;
                }
                if *serves && self.faulty(1) {
                    // It stops in good order.
                    self.gateways[gateway].phase = Phase::Watching;
                    return self.ask(gateway, Ask::Free(epoch));
                }
                let pause = before.map(|at| at.saturating_sub(now).as_millis() as u64 + 1);
                self.wake_after(gateway, pause.unwrap_or(u64::MAX).min(RENEW.as_millis() as u64));
            }
            (Phase::Home { .. }, Answer::None) => self.wake_after(gateway, 200),
            _ => self.watch_again(gateway, 500),
        }
    }
}

#[test]
fn never_do_two_serve_and_soon_one_does() {
    let runs = std::env::var("MOORING_RUNS").map_or(400, |text| text.parse().unwrap());
    let first: u64 = std::env::var("MOORING_SEED").map_or(1, |text| text.parse().unwrap());
    let mut reigns = 0;
    for seed in first..first + runs {
        let faults = 120_000;
        let mut world = World::new(seed, faults);
        for _ in 0..30 {
            let (at, gateway) = (world.random.u64(0..faults), world.random.usize(0..GATEWAYS));
            match world.random.bool() {
                true => {
                    world.at(at, Event::Crash(gateway));
                    let back = world.random.u64(0..15_000);
                    world.at(at + back, Event::Start(gateway));
                }
                false => {
                    let length = world.random.u64(10..15_000);
                    world.at(at, Event::Pause(gateway, length));
                }
            }
        }
        world.run(faults + 45_000);
        let serving = (0..GATEWAYS).filter(|gateway| world.serves(*gateway)).count();
        assert_eq!(serving, 1, "nobody serves though all is well, seed {seed}");
        reigns += world.reigns;
    }
    assert!(reigns > runs * 3, "{reigns} take-overs are too few to have tried anything");
}

#[test]
fn after_a_death_another_serves_within_seven_seconds() {
    let mut longest = 0;
    for seed in 0..300 {
        let mut world = World::new(seed, 0);
        world.run(20_000 + seed * 17);
        let home = (0..GATEWAYS).find(|gateway| world.serves(*gateway)).expect("somebody serves");
        let died = world.now;
        world.take(Event::Crash(home));
        while (0..GATEWAYS).all(|gateway| !world.serves(gateway)) {
            world.run(world.now + 10);
            assert!(world.now < died + 7_000, "still nobody after 7 s, seed {seed}");
        }
        longest = longest.max(world.now - died);
    }
    println!("at the longest {longest} ms");
}

fn homes(dir: &std::path::Path) -> Homes {
    let config = StoreConfig { url: format!("file://{}", dir.display()), ..StoreConfig::default() };
    Homes::of(&Backing::open(&config).unwrap())
}

#[tokio::test]
async fn records_in_a_store_say_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(dir.path());
    assert_eq!(homes.look().await.unwrap(), None);
    let (a, b) =
        (Claim::new("a", "host-a:7443", &SystemRandom), Claim::new("b", "host-b:7443", &SystemRandom));
    homes.claim(1, &a).await.unwrap();
    // Its answer was lost, and it asks again.
    homes.claim(1, &a).await.unwrap();
    assert!(matches!(homes.claim(1, &b).await, Err(HomeError::Taken { .. })));
    for beat in 1..=9 {
        homes.beat(1, beat).await.unwrap();
        homes.forget(&homes.look().await.unwrap().unwrap()).await;
    }
    let look = homes.look().await.unwrap().unwrap();
    assert_eq!((look.epoch, look.beat, look.free), (1, 9, false));
    assert_eq!(std::fs::read_dir(dir.path().join(format!("realm/homes/{:020}", 1))).unwrap().count(), 4);
    assert_eq!(homes.claim_of(1).await.unwrap(), Some(a));
    homes.free(1).await.unwrap();
    assert!(homes.look().await.unwrap().unwrap().free);
    homes.claim(2, &b).await.unwrap();
    let look = homes.look().await.unwrap().unwrap();
    assert_eq!((look.epoch, look.beat, look.free), (2, 0, false));
    homes.claim(3, &b).await.unwrap();
    homes.forget(&homes.look().await.unwrap().unwrap()).await;
    assert_eq!(homes.claim_of(1).await.unwrap(), None);
    assert!(homes.claim_of(2).await.unwrap().is_some());
}
