-- The server's signing keys. Private keys are sealed with AES-256-GCM under a
-- key that is never in the database.
create table authz.signing_keys (
  kid            text        not null,
  alg            text        not null,
  public_jwk     jsonb       not null,
  sealed_private bytea       not null,
  sealed_by      text        not null, -- which sealing key, by a digest of it
  created_at     timestamptz not null,
  signs_from     timestamptz not null, -- published before, signing from then on
  constraint signing_keys_pkey primary key (kid),
  constraint signing_keys_alg_check check (alg in ('ES256')),
  constraint signing_keys_signs_from_check check (signs_from >= created_at)
);

grant select, insert on authz.signing_keys to authz_server;
