//! A robot that takes its time, answers out of order and may forget a request.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::server::{Event, MetadataReply, ObserveReply, ResetReply, Server, StepReply};

use crate::reference::Kind;
use crate::support::*;

#[derive(Debug)]
enum Handle {
    Metadata(MetadataReply),
    Reset(ResetReply),
    Observe(ObserveReply),
    Step(StepReply),
}

/// Everything that the robot is told and does, in its order.
#[derive(Debug, Default)]
pub(crate) struct Robot {
    delays: Vec<Duration>,
    forgets: Option<usize>,
    /// The requests that it was told, of which kind and when. The place of each is what its answer
    /// bears.
    pub(crate) asked: Vec<(Kind, Instant)>,
    /// The actions that it was told and when.
    pub(crate) acted: Vec<(u32, Instant)>,
    /// The actions of the steps.
    pub(crate) stepped: Vec<u32>,
    pub(crate) ended: Option<ConnectionError>,
    at_work: Vec<(Instant, u32, Handle)>,
    /// The reset that is being worked on.
    resetting: Option<u32>,
}

impl Robot {
    /// A robot that takes `delays` for its requests, in turn, and `forgets` one of them.
    pub(crate) fn new(delays: Vec<Duration>, forgets: Option<usize>) -> Self {
        Self { delays, forgets, ..Self::default() }
    }

    pub(crate) fn hears(&mut self, now: Instant, event: Event) {
        assert_eq!(self.ended, None, "{event:?} after the end");
        match event {
            Event::Action(action) => {
                assert_eq!(self.resetting, None, "an action during a reset");
                self.acted.push((number_of(&action), now));
            }
            Event::Metadata(reply) => self.take(now, Kind::Metadata, Handle::Metadata(reply)),
            Event::Reset(reply) => {
                self.resetting = Some(self.asked.len() as u32);
                self.take(now, Kind::Reset, Handle::Reset(reply));
            }
            Event::Observe(reply) => self.take(now, Kind::Observe, Handle::Observe(reply)),
            Event::Step(action, reply) => {
                self.stepped.push(number_of(&action));
                self.take(now, Kind::Step, Handle::Step(reply));
            }
            Event::Disconnected(error) => self.ended = Some(error),
            Event::ActionsDropped { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, now: Instant, kind: Kind, handle: Handle) {
        let number = self.asked.len();
        self.asked.push((kind, now));
        if self.forgets != Some(number) {
            let delay = self.delays[number % self.delays.len()];
            self.at_work.push((now + delay, number as u32, handle));
        }
    }

    /// When it next has an answer.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at_work.iter().map(|(ready, ..)| *ready).min()
    }

    /// How many requests it is working on.
    pub(crate) fn busy(&self) -> usize {
        self.at_work.len()
    }

    pub(crate) fn answers(&mut self, now: Instant, server: &mut Server) {
        while let Some(index) = self.at_work.iter().position(|(ready, ..)| *ready <= now) {
            let (_, number, handle) = self.at_work.remove(index);
            self.resetting.take_if(|reset| *reset == number);
            let answered = match handle {
                Handle::Metadata(reply) => server.reply_metadata(reply, metadata(number)),
                Handle::Reset(reply) => server.reply_reset(reply, reset(number)),
                Handle::Observe(reply) => server.reply_observation(reply, observation(number)),
                Handle::Step(reply) => server.reply_step(reply, step(number)),
            };
            assert_eq!(answered.is_ok(), server.error().is_none());
        }
    }
}
