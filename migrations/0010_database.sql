-- Which builds may use the schema, and which database this is.

-- A build that knows this version of the schema, or a later one, may use it, though
-- the schema be ahead of it. Each migration from here on says so anew.
create table authz.oldest_build (
  only_row boolean not null default true,
  version  integer not null,
  constraint oldest_build_pkey primary key (only_row),
  constraint oldest_build_only_row_check check (only_row)
);
insert into authz.oldest_build (version) values (8);

-- Where this row was written, by which a copy of the database knows that it is one:
-- what was spent, revoked, disabled and rotated since is not in it.
create table authz.database (
  only_row          boolean not null default true,
  system_identifier bigint  not null, -- of the cluster: another one after initdb
  database_oid      bigint  not null, -- another one after create database
  written_in        xid8    not null, -- a row that was copied is of another transaction
  timeline          text,             -- another one after a failover and after a recovery
  -- What was signed up to here is refused: whether it was spent, nobody knows.
  fence             timestamptz,
  constraint database_pkey primary key (only_row),
  constraint database_only_row_check check (only_row)
);

-- Null: this is a standby, or the service that runs Postgres does not tell.
create function authz.current_timeline() returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_is_in_recovery() then
    return null;
  end if;
  return left(pg_walfile_name(pg_current_wal_lsn()), 8);
exception when feature_not_supported or insufficient_privilege then
  return null;
end
$$;

-- The owner's word that this database is the one to serve from now on. Who gives a
-- fence has waited for two seconds since: by then clients sign what lies behind it.
create function authz.claim_database(p_fence timestamptz) returns void
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
end
$$;

-- Whether this is the database that was claimed; and, as far as is known, on the
-- timeline of then. A standby that was promoted is the same database. One that was
-- recovered up to a moment is not, and its settings say so.
create function authz.database_state()
returns table (own boolean, same_timeline boolean, fence timestamptz)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.system_identifier = s.system_identifier and d.database_oid = o.oid::bigint
      and d.written_in::text::numeric % 4294967296 = d.xmin::text::numeric
      and (t.same or not exists (
        select from pg_settings where setting <> '' and name in ('recovery_target', 'recovery_target_time',
          'recovery_target_name', 'recovery_target_xid', 'recovery_target_lsn'))),
    t.same, d.fence
  from authz.database d
  cross join lateral (select coalesce(authz.current_timeline() = d.timeline, true) as same offset 0) t
  cross join pg_control_system() s
  join pg_database o on o.datname = current_database()
$$;

revoke all on function authz.current_timeline, authz.claim_database, authz.database_state from public;
grant select on authz.oldest_build to authz_server;
grant execute on function authz.database_state to authz_server;

select authz.claim_database(null);
