use std::sync::Arc;

use crate::transport::TransportState;

/// Which policy the messages on the shared keys belong to.
///
/// A message does not say who sent it, and Zenoh reports subscriptions in tasks of its own: late,
/// and not in order with the messages. A policy that leaves and the next one that comes can
/// therefore be seen in either order.
///
/// ```text
///              any message                     closed by either side
///   Vacant ───────────────────► Connected ─────────────────────────► Closed
///     ▲                           │   ▲                                │ │
///     │  nobody subscribes        │   │  metadata request              │ │
///     ├───────────────────────────┘   └────────────────────────────────┘ │
///     └──────────────────────────────────────────────────────────────────┘
///                              nobody subscribes
/// ```
pub(super) struct Occupancy {
    state: State,
    /// Whether a policy subscribes to what the robot publishes, as far as it has been reported.
    is_subscribed: bool,
    /// Connections begun so far.
    begun: u64,
}

enum State {
    Vacant,
    Connected {
        connection: Arc<TransportState>,
        /// Begun after another connection was closed, while the subscription of that one's policy
        /// had not been reported as gone. Its policy may be the same or the next one.
        follows_closed: bool,
    },
    /// The last connection is closed, and its policy may still subscribe and send: it has to begin
    /// again with a metadata request.
    Closed,
}

/// What is to be done with a message.
pub(super) enum Route {
    /// It belongs to this connection.
    Deliver(Arc<TransportState>),
    /// It is the first one of this new connection.
    Begin(Arc<TransportState>),
    /// It belongs to a connection that is closed.
    Drop,
}

/// What a reported change of the subscription means for a connection.
pub(super) enum Change {
    None,
    /// The peer subscribes.
    Present(Arc<TransportState>),
    /// The peer has left.
    Left(Arc<TransportState>),
}

impl Occupancy {
    pub(super) fn new() -> Self {
        Self { state: State::Vacant, is_subscribed: false, begun: 0 }
    }

    /// Decides where a message goes. `is_metadata_request` looks at the message, `connection`
    /// makes a new connection.
    pub(super) fn route(
        &mut self,
        is_metadata_request: impl FnOnce() -> bool,
        connection: impl FnOnce() -> Arc<TransportState>,
    ) -> Route {
        if let State::Connected { connection, .. } = &self.state {
            if !connection.is_ended() {
                return Route::Deliver(Arc::clone(connection));
            }
            // What was sent before the policy has learned of the end does not begin a new one.
            if !connection.is_closed() {
                return Route::Drop;
            }
            self.state = if self.is_subscribed { State::Closed } else { State::Vacant };
        }
        let follows_closed = matches!(self.state, State::Closed);
        if follows_closed && !is_metadata_request() {
            return Route::Drop;
        }
        let connection = connection();
        if self.is_subscribed {
            connection.subscription_reported(true, "policy");
        }
        self.state = State::Connected { connection: Arc::clone(&connection), follows_closed };
        self.begun += 1;
        Route::Begin(connection)
    }

    /// Connections begun so far: [`subscription_reported`](Self::subscription_reported) may be told
    /// of a status only if none has begun since the status was read.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Takes a report that the policy has begun or ceased to subscribe. `is_subscribed` is the
    /// status at the time the report is handled: a late report of a policy that has left is
    /// followed by another one when the next policy subscribes already.
    pub(super) fn subscription_reported(&mut self, reported: bool, is_subscribed: bool) -> Change {
        self.is_subscribed = is_subscribed;
        if reported {
            let State::Connected { connection, .. } = &self.state else { return Change::None };
            return Change::Present(Arc::clone(connection));
        }
        if let State::Connected { connection, follows_closed: follows_closed @ true } =
            &mut self.state
            && is_subscribed
        {
            // The report is of the policy before; this connection's policy is the one that
            // subscribes. From now on a report is of this one.
            *follows_closed = false;
            return Change::Present(Arc::clone(connection));
        }
        match std::mem::replace(&mut self.state, State::Vacant) {
            State::Connected { connection, .. } => Change::Left(connection),
            State::Vacant | State::Closed => Change::None,
        }
    }

    /// The connection that there is.
    pub(super) fn connection(&self) -> Option<&Arc<TransportState>> {
        match &self.state {
            State::Connected { connection, .. } => Some(connection),
            State::Vacant | State::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use chiral_proto::wire::Limits;
    use zenoh::bytes::ZBytes;

    use super::*;

    fn new_connection() -> Arc<TransportState> {
        Arc::new(TransportState::new(Limits::default()))
    }

    /// A message that is a metadata request, or is not.
    fn send(occupancy: &mut Occupancy, is_metadata_request: bool) -> Route {
        occupancy.route(|| is_metadata_request, new_connection)
    }

    /// A policy sends its first message.
    #[track_caller]
    fn connect(occupancy: &mut Occupancy) -> Arc<TransportState> {
        match send(occupancy, true) {
            Route::Begin(connection) => connection,
            Route::Deliver(_) => panic!("delivered to the connection before"),
            Route::Drop => panic!("dropped"),
        }
    }

    /// The policy has closed its connection, and was answered.
    fn close(connection: &TransportState) {
        connection.close_received(&ZBytes::from(vec![0xe8, 3]));
        connection.close_sent(false);
        assert!(connection.is_closed());
    }

    #[track_caller]
    fn assert_delivered(occupancy: &mut Occupancy, to: &Arc<TransportState>) {
        assert!(matches!(send(occupancy, false), Route::Deliver(connection)
            if Arc::ptr_eq(&connection, to)));
    }

    fn is_left(change: &Change, whose: &Arc<TransportState>) -> bool {
        matches!(change, Change::Left(connection) if Arc::ptr_eq(connection, whose))
    }

    fn is_present(change: &Change, whose: &Arc<TransportState>) -> bool {
        matches!(change, Change::Present(connection) if Arc::ptr_eq(connection, whose))
    }

    #[test]
    fn a_late_unsubscribe_report_does_not_end_the_next_connection() {
        let mut occupancy = Occupancy::new();
        assert!(matches!(occupancy.subscription_reported(true, true), Change::None));
        let first = connect(&mut occupancy);
        close(&first);
        // The first policy has left and the second one has come before any of it is reported.
        let second = connect(&mut occupancy);
        assert!(is_present(&occupancy.subscription_reported(false, true), &second));
        assert!(is_present(&occupancy.subscription_reported(true, true), &second));
        assert_delivered(&mut occupancy, &second);
        assert!(is_left(&occupancy.subscription_reported(false, false), &second));
    }

    #[test]
    fn an_unreported_departure_does_not_end_the_next_connection() {
        let mut occupancy = Occupancy::new();
        occupancy.subscription_reported(true, true);
        close(&connect(&mut occupancy));
        let second = connect(&mut occupancy);
        assert_delivered(&mut occupancy, &second);
        assert!(is_left(&occupancy.subscription_reported(false, false), &second));
    }

    #[test]
    fn a_vanished_policy_is_noticed_even_if_the_next_has_subscribed() {
        let mut occupancy = Occupancy::new();
        occupancy.subscription_reported(true, true);
        let first = connect(&mut occupancy);
        assert!(is_left(&occupancy.subscription_reported(false, true), &first));
        let second = connect(&mut occupancy);
        assert!(is_present(&occupancy.subscription_reported(true, true), &second));
    }

    #[test]
    fn a_message_before_its_subscription_report_begins_a_connection() {
        let mut occupancy = Occupancy::new();
        let first = connect(&mut occupancy);
        assert!(is_present(&occupancy.subscription_reported(true, true), &first));
        assert!(is_left(&occupancy.subscription_reported(false, false), &first));
        let second = connect(&mut occupancy);
        assert!(is_present(&occupancy.subscription_reported(true, true), &second));
        assert_delivered(&mut occupancy, &second);
    }

    #[test]
    fn after_a_close_only_a_metadata_request_begins_a_new_connection() {
        let mut occupancy = Occupancy::new();
        occupancy.subscription_reported(true, true);
        let first = connect(&mut occupancy);
        first.close_received(&ZBytes::from(vec![0xe8, 3]));
        assert!(matches!(send(&mut occupancy, true), Route::Drop), "the close is not answered yet");
        first.close_sent(false);
        assert!(matches!(send(&mut occupancy, false), Route::Drop));
        connect(&mut occupancy);
        // Nor is it asked of a policy that subscribes after the last one has left.
        occupancy.subscription_reported(false, false);
        assert!(matches!(send(&mut occupancy, false), Route::Begin(_)));
    }
}
