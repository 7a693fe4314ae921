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

-- Adds a key where there is none, and tells whether it did. The server's role
-- cannot insert by itself: a key that does not open would stop every start. The
-- lock is held to the end of the transaction, so that whoever comes second sees
-- the key of the first.
create function authz.add_first_signing_key(p_kid text, p_alg text, p_public_jwk jsonb, p_sealed_private bytea,
  p_sealed_by text, p_created_at timestamptz, p_signs_from timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0));
  insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
  select p_kid, p_alg, p_public_jwk, p_sealed_private, p_sealed_by, p_created_at, p_signs_from
  where not exists (select from authz.signing_keys);
  return found;
end
$$;

revoke all on function authz.add_first_signing_key from public;
grant select on authz.signing_keys to authz_server;
grant execute on function authz.add_first_signing_key to authz_server;
