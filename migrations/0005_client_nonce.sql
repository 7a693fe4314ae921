-- Whether a client's proofs must carry the server's nonce, also where the server
-- does not ask all clients for one (RFC 9449 §8).
alter table authz.clients add column require_nonce boolean not null default false;
