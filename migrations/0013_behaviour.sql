-- What the analysis of clients' behaviour keeps: what is normal for each client, which
-- client has shown which DPoP key, what departed from the normal, and what of that is
-- on its way to the webhook.

-- What is known of all clients together: alerts that are held back for some minutes,
-- and what several clients did at once. Its number is another one each time that
-- anything is kept: of two that have read the same one, one keeps what it found.
create table authz.behaviour_state (
  only_row boolean not null default true,
  number   bigint  not null default 0,
  fleet    jsonb   not null default '{}',
  constraint behaviour_state_pkey primary key (only_row),
  constraint behaviour_state_only_row_check check (only_row)
);
insert into authz.behaviour_state default values;

-- One row a client, of a few kilobytes however long it has been watched. No reference
-- to authz.clients: the analysis is behind it, and learns from the trail that a client
-- is gone.
create table authz.client_baselines (
  client_id  text        not null,
  summary    jsonb       not null,
  updated_at timestamptz not null,
  constraint client_baselines_pkey primary key (client_id)
);

-- A hundred bytes a key, with its index. Clients that make a key for each process leave
-- millions: there is no index by time, so that to note that a key was shown again costs
-- no entry in it, and old ones are found by going round in the order of keys.
create table authz.dpop_key_owners (
  jkt         text        not null,
  client_id   text        not null, -- that has first shown it
  first_shown timestamptz not null,
  last_shown  timestamptz not null, -- to the day
  constraint dpop_key_owners_pkey primary key (jkt)
);

create table authz.alerts (
  id              text        not null,
  client_id       text        not null,
  kind            text        not null,
  subject         text        not null, -- what tells alike ones apart: a key, a network, a scope
  raised_at       timestamptz not null, -- when the first of those folded into it was
  last_at         timestamptz not null,
  times           bigint      not null,
  normal          text        not null,
  seen            text        not null,
  why             text        not null,
  what_to_do      text        not null,
  event_id        text, -- of the trail
  request_id      text,
  other_client_id text,
  -- Alike ones are folded into it: not when it was acknowledged, or silent for long.
  open            boolean     not null default true,
  acknowledged_at timestamptz,
  acknowledged_by text,
  note            text,
  constraint alerts_pkey primary key (id),
  constraint alerts_kind_check check (kind ~ '^[a-z_]+$'),
  constraint alerts_times_check check (times > 0),
  constraint alerts_acknowledged_check check (not (open and acknowledged_at is not null))
);
create unique index alerts_open_key on authz.alerts (client_id, kind, subject) where open;
create index alerts_last_at_idx on authz.alerts (last_at);

-- An alert goes for its age by when something was last added to it: whoever could make
-- that earlier could take it away.
create function authz.keep_alert_growing() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'alert % does not become less or older', old.id
    using errcode = 'check_violation', constraint = 'alerts_keep_growing';
end
$$;
create trigger alerts_keep_growing before update on authz.alerts
  for each row when (new.last_at < old.last_at or new.times < old.times) execute function authz.keep_alert_growing();

-- Alerts on their way to the webhook, of each client in the order of their numbers.
create table authz.alert_deliveries (
  alert_id     text        not null,
  client_id    text        not null,
  number       bigint      not null generated always as identity,
  attempts     integer     not null default 0,
  due_at       timestamptz not null default clock_timestamp(),
  delivered_at timestamptz,
  constraint alert_deliveries_pkey primary key (alert_id),
  constraint alert_deliveries_alert_id_fkey foreign key (alert_id) references authz.alerts on delete cascade
);
create index alert_deliveries_waiting_idx on authz.alert_deliveries (client_id, number) where delivered_at is null;

-- Alerts, a thousand at most, that nothing was added to for 90 days by both clocks.
create function authz.forget_alerts(p_now timestamptz) returns bigint
language sql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
  with old as (
    select id from authz.alerts where last_at < least(p_now, clock_timestamp()) - interval '90 days'
    order by last_at limit 1000
  ), gone as (
    delete from authz.alerts a using old where a.id = old.id returning 1
  )
  select count(*) from gone
$$;

-- Of so many keys after p_after, those that were not shown for 90 days by both clocks
-- or whose client is gone go. Returns the last one that was looked at; null: there are
-- no more.
create function authz.forget_key_owners(p_now timestamptz, p_after text, p_keys integer) returns text
language sql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
  with looked as (
    select o.jkt, o.client_id, o.last_shown from authz.dpop_key_owners o
    where o.jkt > p_after order by o.jkt limit least(p_keys, 10000)
  ), gone as (
    delete from authz.dpop_key_owners o using looked l
    where o.jkt = l.jkt and (l.last_shown < least(p_now, clock_timestamp()) - interval '90 days'
      or not exists (select from authz.clients c where c.id = l.client_id))
  )
  select case when count(*) = least(p_keys, 10000) then max(jkt) end from looked
$$;

revoke all on function authz.keep_alert_growing, authz.forget_alerts, authz.forget_key_owners from public;
grant execute on function authz.forget_alerts, authz.forget_key_owners to authz_server;

-- The server's role learns and raises; it neither acknowledges an alert nor takes one
-- away.
grant select, update (number, fleet) on authz.behaviour_state to authz_server;
grant select, insert, update (summary, updated_at), delete on authz.client_baselines to authz_server;
grant select, insert, update (client_id, first_shown, last_shown) on authz.dpop_key_owners to authz_server;
grant select, insert (id, client_id, kind, subject, raised_at, last_at, times, normal, seen, why, what_to_do,
  event_id, request_id, other_client_id), update (last_at, times, open) on authz.alerts to authz_server;
grant select, insert (alert_id, client_id), update (attempts, due_at, delivered_at) on authz.alert_deliveries to authz_server;

update authz.oldest_build set version = 8;
