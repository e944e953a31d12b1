-- What the other scripts need of Carillon's API, for FreeSWITCH's Lua and for
-- any other: it asks curl, which every switch has.
--
-- Where and with which token: the channel or global variables carillon_url
-- ("http://media.example.com:8080") and carillon_curlrc, the name of a file
-- that only FreeSWITCH may read:
--
--     header = "Authorization: Bearer TOKEN"
--
-- so that the token is neither in a dialplan nor in the list of processes.

local carillon = {}

local url, curlrc = "http://127.0.0.1:8080", "/etc/freeswitch/carillon.curlrc"

-- setup takes the variables of a session. A call must not wait for a node that
-- is gone: everything below gives up after a few seconds.
function carillon.setup(session)
  url = session:getVariable("carillon_url") or url
  curlrc = session:getVariable("carillon_curlrc") or curlrc
end

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- json_text is a Lua string as JSON.
local function json_text(text)
  return '"' .. tostring(text):gsub('[%c"\\]', function(c)
    return string.format("\\u%04x", c:byte())
  end) .. '"'
end

-- json is an object of texts, numbers, booleans and objects.
local function json(fields)
  local parts = {}
  for name, value in pairs(fields) do
    local text
    if type(value) == "table" then
      text = json(value)
    elseif type(value) == "string" then
      text = json_text(value)
    else
      text = tostring(value)
    end
    parts[#parts + 1] = json_text(name) .. ":" .. text
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- field finds a text or a number in an answer of the API; names are unique in
-- what is asked for here. Go writes & < > as escapes.
local function field(answer, name)
  local text = answer:match('"' .. name .. '":"([^"]*)"')
  if text then
    return (text:gsub("\\u(%x%x%x%x)", function(hex)
      return string.char(tonumber(hex, 16) % 256)
    end):gsub("\\/", "/"))
  end
  return tonumber(answer:match('"' .. name .. '":(-?[%d.]+)'))
end
carillon.field = field

-- call returns the answer, and its status as a number (0: nobody answered).
local function call(method, path, fields)
  local command = "curl -s -K " .. quoted(curlrc) .. " --connect-timeout 2 --max-time 10 -X " .. method ..
    " -w '\\n%{http_code}'"
  if fields then
    command = command .. " -H 'Content-Type: application/json' -d " .. quoted(json(fields))
  end
  local pipe = io.popen(command .. " " .. quoted(url .. path))
  local output = pipe:read("*a")
  pipe:close()
  local answer, status = output:match("^(.*)\n(%d+)%s*$")
  return answer or "", tonumber(status) or 0
end
carillon.call = call

local function escaped(text)
  return (text:gsub("[^%w%-._~]", function(c)
    return string.format("%%%02X", c:byte())
  end))
end

-- lookup returns what playback() plays for a media name, or nil.
function carillon.lookup(account, name)
  local answer, status = call("GET",
    "/v1/lookup?account=" .. escaped(account) .. "&protocol=shout&name=" .. escaped(name))
  if status ~= 200 then
    return nil
  end
  return field(answer, "freeswitch")
end

-- ticket makes a recording that waits for its source: its id, what record()
-- records to, and what playback() plays of it, from then on. Fields are those
-- of POST /v1/recordings.
function carillon.ticket(fields)
  local answer, status = call("POST", "/v1/recordings", fields)
  if status ~= 201 then
    return nil, status
  end
  return { id = field(answer, "id"), record = field(answer, "record_url"), play = field(answer, "shout") }
end

-- rerecord makes a new ticket in place of a recording; the old sound goes when
-- there is new one.
function carillon.rerecord(id)
  local answer, status = call("POST", "/v1/recordings/" .. id .. "/rerecord")
  if status ~= 201 then
    return nil, status
  end
  return { id = field(answer, "id"), record = field(answer, "record_url"), play = field(answer, "shout") }
end

-- settled waits until a recording has ended and returns its state and length
-- in ms; FreeSWITCH has closed it before record() returns, so that is at once.
function carillon.settled(id)
  for _ = 1, 20 do
    local answer, status = call("GET", "/v1/recordings/" .. id)
    if status ~= 200 then
      return nil, 0
    end
    local state = field(answer, "state")
    if state ~= "live" and state ~= "waiting" then
      return state, field(answer, "duration_ms") or 0, field(answer, "ended_by")
    end
    os.execute("sleep 0.1")
  end
  return "live", 0
end

-- store makes a recording the item account/id: true if that is durable.
function carillon.store(id, fields)
  local _, status = call("POST", "/v1/recordings/" .. id .. "/store", fields)
  return status == 200, status
end

function carillon.discard(id)
  local _, status = call("POST", "/v1/recordings/" .. id .. "/discard")
  return status == 204, status
end

return carillon
