-- What changes hands gradually, and can be taken back at once: signing keys,
-- clients' secrets, clients' DPoP keys.

-- A key signs until a later one of its algorithm does, or until it is retired by
-- hand; it is published for as long as what it signed lives. One that is revoked
-- is published no more, and its tokens are inactive.
alter table authz.signing_keys
  add column retires_at timestamptz,
  add column revoked_at timestamptz,
  -- Every instance reads all keys every few seconds.
  add constraint signing_keys_size_check check (length(kid) <= 128 and length(sealed_by) <= 256
    and octet_length(sealed_private) <= 16384 and length(public_jwk::text) <= 16384),
  drop constraint signing_keys_alg_check,
  add constraint signing_keys_alg_check check (alg in ('ES256', 'EdDSA', 'PS256', 'RS256'));

-- The algorithm that a resource's tokens are signed with; null: the server's own
-- choice.
alter table authz.resources
  add column signing_alg text,
  add constraint resources_signing_alg_check check (signing_alg in ('ES256', 'EdDSA', 'PS256', 'RS256'));

-- By which key and which credential a token came to be. Null: an opaque token; one
-- from before.
alter table authz.tokens
  add column kid text,
  add column credential text;

-- A secret ends at expires_at, by the clock of whoever asks; one that was ended by
-- an operator's word ends for everyone at once, whatever their clocks say.
alter table authz.client_secrets
  add column ended boolean not null default false,
  add constraint client_secrets_ended_check check (not ended or expires_at is not null);

-- Which DPoP keys a client may have tokens for: any; those that are enrolled; or
-- those and, while there is none, the first that it proves.
alter table authz.clients
  add column dpop_keys text not null default 'any',
  add constraint clients_dpop_keys_check check (dpop_keys in ('any', 'enrolled', 'first-use'));

create table authz.client_dpop_keys (
  client_id   text        not null,
  jkt         text        not null,
  enrolled_at timestamptz not null,
  enrolled_by text        not null, -- operator:NAME, first-use, or jkt:… of the key that vouched
  expires_at  timestamptz,          -- null: until it is removed
  -- Removed, or ended at once by its successor: over by every clock.
  ended       boolean     not null default false,
  constraint client_dpop_keys_pkey primary key (client_id, jkt),
  constraint client_dpop_keys_client_id_fkey foreign key (client_id) references authz.clients on delete cascade,
  constraint client_dpop_keys_jkt_check check (length(jkt) = 43)
);

-- DPoP keys that are worth nothing any more, for any client: no token is issued
-- for one, and those that were are inactive. For good.
create table authz.revoked_dpop_keys (
  jkt        text        not null,
  revoked_at timestamptz not null,
  constraint revoked_dpop_keys_pkey primary key (jkt),
  constraint revoked_dpop_keys_jkt_check check (length(jkt) = 43)
);

grant select on authz.client_dpop_keys, authz.revoked_dpop_keys to authz_server;

-- Fails for a time that is two hours off this clock: whoever has the server's
-- rights does not bring back what has ended by saying that it is yesterday.
create function authz.hold_to_clock(p_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_at is null or abs(extract(epoch from p_at - clock_timestamp())) > 2 * 3600 then
    raise exception 'the clock of who asks, %, and this one are hours apart', p_at using errcode = 'data_exception';
  end if;
end
$$;

revoke all on function authz.hold_to_clock from public;

-- Enrols the first key of a client whose keys are by first use, and tells whether
-- it did, or this very key was enrolled meanwhile. Where another one was it fails,
-- so that nothing is left of the statement that asks. The lock lets whoever comes
-- second see the key of the first.
create function authz.enrol_first_dpop_key(p_client_id text, p_jkt text, p_at timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform authz.hold_to_clock(p_at);
  perform from authz.clients where id = p_client_id and dpop_keys = 'first-use' and disabled_at is null for no key update;
  if found and not exists (select from authz.client_dpop_keys where client_id = p_client_id) then
    insert into authz.client_dpop_keys (client_id, jkt, enrolled_at, enrolled_by) values (p_client_id, p_jkt, p_at, 'first-use');
    return true;
  end if;
  perform from authz.client_dpop_keys
  where client_id = p_client_id and jkt = p_jkt and not ended and (expires_at is null or expires_at > p_at);
  if not found then
    raise exception 'another key of client % was the first', p_client_id
      using errcode = 'check_violation', constraint = 'client_dpop_keys_first_use';
  end if;
  return false;
end
$$;

-- Enrols a key that an enrolled one vouches for, and brings that one's end forward
-- if it is given. What has ended stays so: another key cannot bring it back. And
-- whoever may stay for a time only vouches for nobody longer than that. The answer
-- is the verdict: enrolled, client (there is none such), endorser, key or
-- many.
create function authz.enrol_endorsed_dpop_key(p_client_id text, p_jkt text, p_by text, p_at timestamptz, p_by_ends_at timestamptz)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  policy text;
  endorser_ends_at timestamptz;
begin
  perform authz.hold_to_clock(p_at);
  select dpop_keys into policy from authz.clients where id = p_client_id and disabled_at is null for no key update;
  if not found then
    return 'client';
  end if;
  if exists (select from authz.revoked_dpop_keys where jkt = p_by) then
    return 'endorser';
  end if;
  select expires_at into endorser_ends_at from authz.client_dpop_keys
  where client_id = p_client_id and jkt = p_by and not ended and (expires_at is null or expires_at > p_at) and policy <> 'any' and p_by <> p_jkt;
  if not found then
    return 'endorser';
  end if;
  update authz.client_dpop_keys
  set expires_at = least(expires_at, greatest(p_by_ends_at, p_at)), ended = p_by_ends_at <= p_at
  where client_id = p_client_id and jkt = p_by and p_by_ends_at is not null;
  delete from authz.client_dpop_keys where client_id = p_client_id and expires_at < least(p_at, clock_timestamp()) - interval '90 days';
  if (select count(*) from authz.client_dpop_keys where client_id = p_client_id) >= 100 then
    return 'many';
  end if;
  if exists (select from authz.revoked_dpop_keys where jkt = p_jkt) then
    return 'key';
  end if;
  insert into authz.client_dpop_keys (client_id, jkt, enrolled_at, enrolled_by, expires_at)
  values (p_client_id, p_jkt, p_at, 'jkt:' || p_by, endorser_ends_at)
  on conflict do nothing;
  perform from authz.client_dpop_keys where client_id = p_client_id and jkt = p_jkt and not ended and (expires_at is null or expires_at > p_at);
  return case when found then 'enrolled' else 'key' end;
end
$$;

revoke all on function authz.enrol_first_dpop_key, authz.enrol_endorsed_dpop_key from public;
grant execute on function authz.enrol_first_dpop_key, authz.enrol_endorsed_dpop_key to authz_server;

-- Adds a key of an algorithm where there is none that could sign, now or later,
-- and tells whether it did. Until here it was: where there is none at all. It signs
-- within the hour: one that never does would keep out the one that is needed.
create or replace function authz.add_first_signing_key(p_kid text, p_alg text, p_public_jwk jsonb, p_sealed_private bytea,
  p_sealed_by text, p_created_at timestamptz, p_signs_from timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0));
  insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
  select p_kid, p_alg, p_public_jwk, p_sealed_private, p_sealed_by, p_created_at, p_signs_from
  where abs(extract(epoch from p_created_at - clock_timestamp())) <= 2 * 3600
    and p_signs_from between p_created_at and p_created_at + interval '1 hour'
    and not exists (
      select from authz.signing_keys where alg = p_alg and retires_at is null and revoked_at is null);
  return found;
end
$$;

-- Adds the key that follows p_after, the newest of its algorithm, and tells
-- whether it did. The server's role cannot add keys at will: none while one has
-- yet to sign by this clock, none that signs within a day of the one before, within
-- three hours of its making or within ninety minutes by this clock, none that keeps
-- the next one waiting for more than a month, and none by a clock that is two hours
-- off this one. So each key of its making signs a day or more after the one before,
-- and by then every instance has looked at it for ninety minutes: a key that none of
-- them can open, as one that a thief of this role has made up, is told in time to
-- revoke it.
create function authz.add_next_signing_key(p_kid text, p_alg text, p_public_jwk jsonb, p_sealed_private bytea,
  p_sealed_by text, p_created_at timestamptz, p_signs_from timestamptz, p_after text) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  newest record;
begin
  perform pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0));
  select kid, signs_from into newest from authz.signing_keys
  where alg = p_alg and retires_at is null and revoked_at is null
  order by signs_from desc, kid collate "C" desc limit 1;
  if not found or newest.kid <> p_after
    or newest.signs_from > least(p_created_at, clock_timestamp())
    or abs(extract(epoch from p_created_at - clock_timestamp())) > 2 * 3600
    or p_signs_from < newest.signs_from + interval '24 hours'
    or p_signs_from < p_created_at + interval '3 hours'
    or p_signs_from < clock_timestamp() + interval '90 minutes'
    or p_signs_from > p_created_at + interval '720 hours'
  then
    return false;
  end if;
  insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
  values (p_kid, p_alg, p_public_jwk, p_sealed_private, p_sealed_by, p_created_at, p_signs_from);
  return true;
end
$$;

revoke all on function authz.add_next_signing_key from public;
grant execute on function authz.add_next_signing_key to authz_server;
