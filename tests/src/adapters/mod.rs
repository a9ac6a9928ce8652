//! The adapters. For another one: a file here, and a line in the grid of `matrix/main.rs`.

pub mod async_std;
pub mod blocking;
pub mod driven;
pub mod smol;
pub mod tls;
pub mod tokio;
pub mod unix;
#[cfg(feature = "zenoh")]
pub mod zenoh;

/// Those calls of a [`Policy`](crate::adapter::Policy) that are the same for every client, `self.0`.
macro_rules! calls_that_do_not_wait {
    () => {
        fn latest_obs(&self) -> Option<Arc<Observation>> {
            self.0.latest_obs()
        }

        fn try_next_obs(&self) -> Result<Option<Arc<Observation>>, CallError> {
            self.0.try_next_obs()
        }

        fn fresh_obs(&self, max_age: Duration) -> Result<Arc<Observation>, NotFresh> {
            self.0.fresh_obs(max_age)
        }

        fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse> {
            self.0.start_obs_stream(rate)
        }

        fn stop_obs_stream(&self) {
            self.0.stop_obs_stream();
        }

        fn follow(
            &self,
            basis: &Observation,
            rows: Vec<Action>,
        ) -> Result<chiral_proto::timeline::Placement, NotQueued> {
            self.0.follow(basis, rows)
        }

        fn refill_at(&self, rows: usize) {
            self.0.refill_at(rows);
        }

        fn set_starved(&self, starved: chiral_proto::timeline::Starved) -> Result<(), Misuse> {
            self.0.set_starved(starved)
        }

        fn declared_actions(&self) -> chiral_proto::ActionDeclaration {
            self.0.declared_actions()
        }

        fn contract(&self) -> chiral_proto::ActionSpec {
            self.0.contract()
        }

        fn contract_status(&self) -> Option<chiral_proto::ContractStatus> {
            self.0.contract_status()
        }

        fn put_action(&self, action: Action) -> Result<(), NotQueued> {
            self.0.put_action(action)
        }

        fn send_action(&self, action: Action) -> Result<(), NotQueued> {
            self.0.send_action(action)
        }

        fn put_chunk(&self, basis: &Observation, actions: Vec<Action>) -> Result<(), NotQueued> {
            self.0.put_chunk(basis, actions)
        }

        fn replace_actions(
            &self,
            basis: &Observation,
            actions: Vec<Action>,
        ) -> Result<usize, NotQueued> {
            self.0.replace_actions(basis, actions)
        }

        fn clear_actions(&self) -> usize {
            self.0.clear_actions()
        }

        fn queued_actions(&self) -> usize {
            self.0.queued_actions()
        }

        fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse> {
            self.0.start_action_dispatch(rate)
        }

        fn stop_action_dispatch(&self) {
            self.0.stop_action_dispatch();
        }

        fn stats(&self) -> client::Stats {
            self.0.stats()
        }

        fn is_silent(&self) -> bool {
            self.0.is_silent()
        }

        fn error(&self) -> Option<ConnectionError> {
            self.0.error()
        }

        fn connection_state(&self) -> client::ConnectionState {
            self.0.connection_state()
        }

        #[cfg(feature = "zenoh")]
        fn shares_memory(&self) -> Option<bool> {
            let counts = self.0.transport_extension::<chiral_zenoh::Counts>()?;
            Some(counts.read().uses_shared_memory())
        }
    };
}
use calls_that_do_not_wait;
