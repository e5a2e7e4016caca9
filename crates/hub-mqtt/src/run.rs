//! Messages of one device that arrived together: they are taken in one commit, so that a device which sends without waiting
//! for each acknowledgement does not wait for a commit per message. It only gathers; it must never wait for more to come.

use hub_domain::message::Message;

use crate::codec::Publish;

/// Messages in one run.
const RUN_MESSAGES_MAX: usize = 64;
/// Topics and payloads after which a run is full; the last message may go beyond.
const RUN_BYTES_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Run {
    /// In the order of arrival.
    pub messages: Vec<Message>,
    /// Those of the messages that are to be acknowledged.
    pub packets: Vec<u16>,
    bytes: usize,
}

impl Run {
    /// Adds the message of a publish.
    pub fn push(&mut self, publish: &Publish, message: Message) {
        self.bytes += publish.topic.len() + publish.payload.len();
        self.messages.push(message);
        if publish.qos > 0 {
            self.packets.push(publish.packet);
        }
    }

    /// Whether it must be taken before anything is added.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= RUN_MESSAGES_MAX || self.bytes >= RUN_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_full_by_count_or_by_bytes() {
        for (bytes, fit) in
            [(0, RUN_MESSAGES_MAX), (1000, RUN_MESSAGES_MAX), (RUN_BYTES_MAX / 4, 4), (RUN_BYTES_MAX + 1, 1)]
        {
            let mut run = Run::default();
            while !run.is_full() {
                let payload = vec![0; bytes].into();
                run.push(&Publish { payload, ..Publish::default() }, Message::default());
            }
            assert_eq!(run.messages.len(), fit, "messages of {bytes} bytes");
        }
    }

    #[test]
    fn only_what_asks_for_it_is_acknowledged() {
        let mut run = Run::default();
        for (qos, packet) in [(1, 5), (0, 0), (1, 3)] {
            run.push(&Publish { qos, packet, ..Publish::default() }, Message::default());
        }
        assert_eq!((run.messages.len(), run.packets), (3, vec![5, 3]));
    }
}
