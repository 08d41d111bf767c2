//! Kubernetes' channel protocols: several streams in the messages of one WebSocket.
//!
//! ```text
//! v4, v5:     binary   [channel u8][bytes]        v5 only: [255][channel] closes it
//! v4.base64:  text     [channel as a digit][base64 of the bytes]
//! ```
//! Channels: 0 standard input, 1 output, 2 errors, 3 the end as a Status, 4 the
//! terminal's size as JSON. Invariant: no message panics; one that is wrong ends the
//! conversation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const END: u8 = 3;
pub(super) const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Which of the protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    V5,
    V4,
    V4Base64,
}

impl Protocol {
    const ALL: [Protocol; 3] = [Protocol::V5, Protocol::V4, Protocol::V4Base64];

    /// Its name in `Sec-WebSocket-Protocol`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::V5 => "v5.channel.k8s.io",
            Protocol::V4 => "v4.channel.k8s.io",
            Protocol::V4Base64 => "v4.base64.channel.k8s.io",
        }
    }

    /// The first that the client offers and that is known here.
    pub(super) fn choose<'o>(offers: impl IntoIterator<Item = &'o str>) -> Option<Self> {
        offers
            .into_iter()
            .find_map(|offer| Self::ALL.into_iter().find(|known| known.name() == offer))
    }

    /// A message on a channel.
    pub(super) fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        if self == Protocol::V4Base64 {
            let digit = char::from(b'0'.wrapping_add(channel));
            return Message::text(format!("{digit}{}", STANDARD.encode(bytes)));
        }
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// Reads one; `Ok(None)` for those that say nothing.
    pub(super) fn decode(self, message: Message) -> Result<Option<FromChannel>, ChannelError> {
        if matches!(message, Message::Close(_)) {
            return Ok(Some(FromChannel::Gone));
        }
        let Some((channel, bytes)) = self.split(message)? else { return Ok(None) };
        match channel {
            STDIN => Ok(Some(FromChannel::Stdin(bytes))),
            RESIZE => {
                let size: Size = serde_json::from_slice(&bytes).map_err(|_| ChannelError::Size)?;
                Ok(Some(FromChannel::Resize { rows: size.height, columns: size.width }))
            }
            CLOSE if self == Protocol::V5 => match bytes.as_ref() {
                [STDIN] => Ok(Some(FromChannel::StdinClosed)),
                // Only standard input has an end that somebody waits for.
                [_] => Ok(None),
                _ => Err(ChannelError::Close),
            },
            other => Err(ChannelError::Channel(other)),
        }
    }

    /// The channel of a message and what it carries; `Ok(None)` for those without.
    pub(super) fn split(self, message: Message) -> Result<Option<(u8, Bytes)>, ChannelError> {
        match (self, message) {
            (_, Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_)) => {
                Ok(None)
            }
            (Protocol::V4Base64, Message::Text(text)) => {
                let Some(digit) = text.bytes().next() else { return Ok(None) };
                let body = text.get(1..).ok_or(ChannelError::Digit)?;
                let channel = digit.checked_sub(b'0').ok_or(ChannelError::Digit)?;
                let bytes = STANDARD.decode(body).map_err(|_| ChannelError::Base64)?;
                Ok(Some((channel, bytes.into())))
            }
            (_, message) => {
                let mut bytes = message.into_data();
                if bytes.is_empty() {
                    return Ok(None);
                }
                let channel = bytes.split_to(1)[0];
                Ok(Some((channel, bytes)))
            }
        }
    }
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FromChannel {
    Stdin(Bytes),
    StdinClosed,
    Resize {
        rows: u16,
        columns: u16,
    },
    /// It says goodbye.
    Gone,
}

/// A terminal's size as Kubernetes' clients send it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChannelError {
    #[error("channel {0} is not one that a client writes to")]
    Channel(u8),
    #[error("a message does not begin with its channel")]
    Digit,
    #[error("a message is not base64")]
    Base64,
    #[error("a terminal's size cannot be read")]
    Size,
    #[error("a message that closes a channel must name one")]
    Close,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(bytes: &[u8]) -> Message {
        Message::Binary(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn the_clients_first_known_offer_is_taken() {
        let offers = ["channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(Protocol::choose(offers), Some(Protocol::V4));
        assert_eq!(Protocol::choose(["SPDY/3.1"]), None);
    }

    #[test]
    fn only_v5_closes_channels() {
        assert_eq!(Protocol::V5.decode(binary(&[255, 0])), Ok(Some(FromChannel::StdinClosed)));
        assert_eq!(Protocol::V5.decode(binary(&[255, 1])), Ok(None));
        assert_eq!(Protocol::V5.decode(binary(&[255])), Err(ChannelError::Close));
        assert_eq!(Protocol::V4.decode(binary(&[255, 0])), Err(ChannelError::Channel(255)));
        assert_eq!(Protocol::V4.decode(binary(&[1, 0])), Err(ChannelError::Channel(1)));
        assert_eq!(Protocol::V4.decode(binary(&[])), Ok(None));
    }

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        let size = |text: &str| Protocol::V5.decode(binary(format!("\u{4}{text}").as_bytes()));
        assert_eq!(
            size(r#"{"Width":80,"Height":24}"#),
            Ok(Some(FromChannel::Resize { rows: 24, columns: 80 }))
        );
        for nonsense in ["", "{}", r#"{"Width":-1,"Height":24}"#, r#"{"Width":99999,"Height":1}"#] {
            assert_eq!(size(nonsense), Err(ChannelError::Size), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for protocol in Protocol::ALL {
                let message = protocol.encode(STDIN, &bytes);
                let back = FromChannel::Stdin(Bytes::from(bytes.clone()));
                prop_assert_eq!(protocol.decode(message), Ok(Some(back)));
            }
        }

        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..50), text in ".{0,20}") {
            for protocol in Protocol::ALL {
                let _ = protocol.decode(binary(&bytes));
                let _ = protocol.decode(Message::text(text.clone()));
            }
        }
    }
}
