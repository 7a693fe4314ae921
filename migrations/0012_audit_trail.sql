-- The audit trail can be read in an order in which nothing appears late, sealed, and
-- kept for as long as the owner says.

-- How long events are kept; and up to where events and seals were dropped for their
-- age, so that whoever drops more can be told from that.
create table authz.audit_retention (
  only_row       boolean not null default true,
  keep_days      integer not null default 90,
  dropped_before timestamptz,
  dropped_seal   bigint  not null default 0,
  dropped_digest bytea   not null default decode(repeat('00', 32), 'hex'), -- of that seal
  constraint audit_retention_pkey primary key (only_row),
  constraint audit_retention_only_row_check check (only_row),
  constraint audit_retention_keep_days_check check (keep_days between 1 and 3650)
);
insert into authz.audit_retention default values;

-- The id of the transaction that an event was written in, and a sum that keeps the ids
-- of a new cluster above those of the one before: its place in the trail, to which
-- nothing can be added once every transaction up to it has ended, whatever clocks say.
-- Null: from before there were places.
create table authz.audit_positions (
  only_row boolean     not null default true,
  added    bigint      not null default 0,
  -- No event of an earlier day has a place, and all that were written later have one.
  began_at timestamptz not null,
  made_at  timestamptz not null default clock_timestamp(),
  constraint audit_positions_pkey primary key (only_row),
  constraint audit_positions_only_row_check check (only_row)
);
insert into authz.audit_positions (began_at)
values (date_trunc('day', clock_timestamp() - interval '2 hours', 'UTC'));

-- The default comes after the column: with it, each row would be written anew.
alter table authz.audit_events add column recorded_in bigint;
alter table authz.audit_events alter column recorded_in set default (pg_current_xact_id()::text::bigint + 0);
-- Of the parent alone: partitions that come have them, and migrations.Up makes the first
-- one for today's, without keeping out who writes.
create index audit_events_recorded_in_idx on only authz.audit_events (recorded_in);

-- Seals, in the order of their numbers: see package audittrail.
create table authz.audit_seals (
  number           bigint      not null,
  day              date        not null, -- UTC: whose events it is over
  from_recorded_in bigint      not null, -- those after this place
  from_id          uuid        not null,
  upto_recorded_in bigint      not null, -- and up to this one
  upto_id          uuid        not null,
  events           integer     not null,
  previous         bytea       not null, -- the digest of the seal before; zeros: it is the first
  digest           bytea       not null,
  mac              bytea       not null, -- of the digest
  mac_key          text        not null, -- which key that is by
  sealed_at        timestamptz not null default clock_timestamp(),
  constraint audit_seals_digest_check check (octet_length(digest) = 32 and octet_length(previous) = 32 and octet_length(mac) = 32),
  constraint audit_seals_mac_key_check check (length(mac_key) <= 64),
  constraint audit_seals_events_check check (events > 0 and number > 0)
) partition by range (sealed_at);
create index audit_seals_number_idx on authz.audit_seals (number);
grant insert (number, day, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous, digest, mac, mac_key)
  on authz.audit_seals to authz_server;

-- A day after the events that it is over, a seal goes too.
create or replace function authz.partition_families()
returns table (family text, unit text, width interval, ahead interval, keep interval)
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  values
    ('tokens',       'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
    ('spent_proofs', 'hour', interval '1 hour', interval '6 hours', interval '2 hours'),
    ('audit_events', 'day',  interval '1 day',  interval '2 days',  (select keep_days from authz.audit_retention) * interval '1 day'),
    ('audit_seals',  'day',  interval '1 day',  interval '2 days',  (select keep_days + 2 from authz.audit_retention) * interval '1 day')
$$;

-- Notes what goes for its age.
create function authz.note_dropped(p_family text, p_partition text, p_before timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_family = 'audit_events' then
    update authz.audit_retention set dropped_before = p_before where dropped_before is null or dropped_before < p_before;
  elsif p_family = 'audit_seals' then
    execute format('update authz.audit_retention r set dropped_seal = s.number, dropped_digest = s.digest
      from (select number, digest from authz.%I order by number desc limit 1) s where r.dropped_seal < s.number', p_partition);
  end if;
end
$$;

-- As before, and noted where it is of the trail.
create or replace function authz.drop_old_partition(p_family text, p_now timestamptz) returns boolean
language plpgsql strict security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set lock_timeout = '50ms'
as $$
declare
  old record;
  index name;
  detaches boolean;
  done boolean := false;
begin
  -- Whoever holds it is at the same work.
  if not pg_try_advisory_xact_lock(hashtextextended('authz.partitions', 0)) then
    return false;
  end if;
  for old in
    select c.relname, i.inhrelid is not null as attached,
      to_timestamp(substring(c.relname from '[0-9]{8}_[0-9]{2}'), 'YYYYMMDD"_"HH24') + f.width as ends_at
    from authz.partition_families() f
    join pg_class c on c.relnamespace = 'authz'::regnamespace and c.relkind = 'r'
      and c.relname ~ ('^' || f.family || '_[0-9]{8}_[0-9]{2}(_old)?$')
    left join pg_inherits i on i.inhrelid = c.oid
    where f.family = p_family
      and (i.inhrelid is null) = (c.relname like '%\_old')
      and to_timestamp(substring(c.relname from '[0-9]{8}_[0-9]{2}'), 'YYYYMMDD"_"HH24') + f.width + f.keep < least(p_now, clock_timestamp())
    order by attached, c.relname
    limit 24
  loop
    detaches := coalesce(detaches, old.attached);
    exit when old.attached <> detaches;
    if old.attached then
      execute format('alter table authz.%I detach partition authz.%I', p_family, old.relname);
      execute format('alter table authz.%I rename to %I', old.relname, old.relname || '_old');
      -- Its names are free for one that a clock which was set back may want again.
      for index in
        select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = format('authz.%I', old.relname || '_old')::regclass
      loop
        execute format('alter index authz.%I rename to %I', index, replace(index, old.relname, old.relname || '_old'));
      end loop;
      perform authz.note_dropped(p_family, old.relname || '_old', old.ends_at);
    else
      execute format('drop table authz.%I', old.relname);
    end if;
    done := true;
  end loop;
  return done;
exception when lock_not_available then
  return false;
end
$$;

-- Events whose place nothing can come before any more, in the order of their places,
-- from after one on.
create function authz.read_audit(p_recorded_in bigint, p_id uuid, p_limit integer)
returns table (recorded_in bigint, id uuid, at timestamptz, kind text, actor text, client_id text, resource text, jti uuid,
  jkt text, request_id text, remote_addr text, detail text, recorded_by text)
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off
set enable_bitmapscan = off set jit = off
as $$
#variable_conflict use_column
declare
  begins timestamptz;
  ends bigint;
begin
  if p_limit not between 1 and 10000 then
    raise exception 'the limit is 1 to 10000, and not %', p_limit using errcode = 'invalid_parameter_value';
  end if;
  -- By the snapshot that the events are read by.
  select p.began_at, p.added + pg_snapshot_xmin(pg_current_snapshot())::text::bigint into begins, ends from authz.audit_positions p;
  return query
  select e.recorded_in, e.id, e.at, e.kind, e.actor, e.client_id, e.resource, e.jti,
    e.jkt, e.request_id, e.remote_addr, e.detail::text, e.recorded_by
  from authz.audit_events e
  where e.at >= begins and e.recorded_in >= p_recorded_in and e.recorded_in < ends
    and (e.recorded_in > p_recorded_in or e.id > p_id)
  order by e.recorded_in, e.id
  limit p_limit;
end
$$;

-- When the first event after a place was, final or not; null: there is none.
create function authz.oldest_after(p_recorded_in bigint, p_id uuid) returns timestamptz
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off
set enable_bitmapscan = off set jit = off
as $$
declare
  begins timestamptz;
  first timestamptz;
begin
  select p.began_at into begins from authz.audit_positions p;
  select e.at into first from authz.audit_events e
  where e.at >= begins and e.recorded_in >= p_recorded_in and (e.recorded_in > p_recorded_in or e.id > p_id)
  order by e.recorded_in limit 1;
  return first;
end
$$;

-- Who reads the trail to its end, one instance at a time, and how far it has come.
create table authz.followers (
  name        text        not null,
  recorded_in bigint      not null default 0,
  id          uuid        not null default '00000000-0000-0000-0000-000000000000',
  holder      text,
  held_until  timestamptz,
  constraint followers_pkey primary key (name),
  constraint followers_holder_check check (holder is null or length(holder) between 1 and 64 and held_until is not null)
);
insert into authz.followers (name) values ('seals'), ('behaviour');

-- Takes or renews the lease of a follower, or tells that another one holds it, and
-- where it stands. Whoever is at it right now keeps it.
create function authz.follow(p_name text, p_holder text, p_hold interval, out at_recorded_in bigint, out at_id uuid, out held boolean)
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_hold not between interval '1 second' and interval '5 minutes' then
    raise exception 'a lease is for 1 second to 5 minutes, and not for %', p_hold using errcode = 'invalid_parameter_value';
  end if;
  if length(p_holder) not between 1 and 64 then
    raise exception 'a holder is named by 1 to 64 characters' using errcode = 'invalid_parameter_value';
  end if;
  perform from authz.followers f
  where f.name = p_name and (f.holder is null or f.holder = p_holder or f.held_until <= clock_timestamp())
  for no key update skip locked;
  held := found;
  if held then
    update authz.followers f set holder = p_holder, held_until = clock_timestamp() + p_hold where f.name = p_name;
  end if;
  select f.recorded_in, f.id into at_recorded_in, at_id from authz.followers f where f.name = p_name;
  if not found then
    raise exception 'there is no follower %', p_name using errcode = 'no_data_found';
  end if;
end
$$;

-- Moves a follower on, and tells whether it did: not where another one holds it, where
-- it stands elsewhere, and to nowhere that an event may yet come before.
create function authz.advance_follower(p_name text, p_holder text, p_from_recorded_in bigint, p_from_id uuid,
  p_to_recorded_in bigint, p_to_id uuid) returns boolean
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update authz.followers f set recorded_in = p_to_recorded_in, id = p_to_id
  where f.name = p_name and f.holder = p_holder and f.recorded_in = p_from_recorded_in and f.id = p_from_id
    and (p_to_recorded_in, p_to_id) > (p_from_recorded_in, p_from_id)
    and p_to_recorded_in < (select p.added + pg_snapshot_xmin(pg_current_snapshot())::text::bigint from authz.audit_positions p);
  return found;
end
$$;

-- The last seal, though it be dropped; number 0 and a digest of zeros: there was none.
create function authz.last_seal(out number bigint, out digest bytea)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select x.number, x.digest from (
    (select s.number, s.digest from authz.audit_seals s order by s.number desc limit 1)
    union all
    select r.dropped_seal, r.dropped_digest from authz.audit_retention r
  ) x order by x.number desc limit 1
$$;

-- Keeps the places of what is written from now on above those that there are: a new
-- cluster's transactions are counted from the beginning. What was written in it before
-- this, by operators, gets the place of now: its row was written by the transaction
-- that its place names, and no restored row was.
create function authz.raise_positions() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  p record;
  current bigint := pg_current_xact_id()::text::bigint;
  last bigint;
begin
  select * into strict p from authz.audit_positions for update;
  select max(e.recorded_in) into last from authz.audit_events e where e.at >= p.began_at;
  last := greatest(last, (select max(f.recorded_in) from authz.followers f));
  if last is null or last < current + p.added then
    return;
  end if;
  update authz.audit_positions set added = last + 1;
  execute format('alter table authz.audit_events alter column recorded_in set default (pg_current_xact_id()::text::bigint + %s)', last + 1);
  update authz.audit_events e set recorded_in = last + 1 + current
  where e.at >= p.began_at and e.recorded_in between p.added + 1 and p.added + current
    and e.xmin::text::bigint = (e.recorded_in - p.added) % 4294967296;
end
$$;

-- As before, and events have places above those of the copy.
create or replace function authz.claim_database(p_fence timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_fence > clock_timestamp() + interval '1 minute' then
    raise exception 'the clock of who asks, %, is ahead of the database''s, %', p_fence, clock_timestamp()
      using errcode = 'data_exception', hint = 'Set the clocks right: until that time nothing would be accepted.';
  end if;
  insert into authz.database as d (system_identifier, database_oid, written_in, timeline, fence)
  select s.system_identifier, o.oid::bigint, pg_current_xact_id(), authz.current_timeline(),
    case when p_fence is not null then greatest(p_fence, clock_timestamp() - interval '2 seconds') end
  from pg_control_system() s, pg_database o where o.datname = current_database()
  on conflict (only_row) do update
  set system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
    written_in = excluded.written_in, timeline = excluded.timeline, fence = greatest(d.fence, excluded.fence);
  perform authz.raise_positions();
end
$$;

revoke all on function authz.note_dropped, authz.read_audit, authz.oldest_after, authz.follow, authz.advance_follower,
  authz.last_seal, authz.raise_positions from public;
grant execute on function authz.read_audit, authz.oldest_after, authz.follow, authz.advance_follower, authz.last_seal to authz_server;

update authz.oldest_build set version = 8;
