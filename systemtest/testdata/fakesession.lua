-- Stands in for FreeSWITCH around one of examples/freeswitch/scripts: it runs
-- the script with the session and freeswitch that mod_lua gives it, and does
-- what the applications do on the wire by $FAKE_SWITCH, which replays measured
-- bytes. Digits are pressed as FAKE_DIGITS says, "-" is none, "h" hangs up.
-- What happened is printed, a line each.

local sounds, pressed = {}, 0
for file in (os.getenv("FAKE_SOUNDS") or ""):gmatch("%S+") do
  sounds[#sounds + 1] = file
end
local digits = os.getenv("FAKE_DIGITS") or ""
local vars = { uuid = os.getenv("FAKE_UUID"), caller_id_number = "1001", destination_number = "9420",
  carillon_url = os.getenv("FAKE_URL"), carillon_curlrc = os.getenv("FAKE_CURLRC") }
local gone = false

local function note(...)
  print(table.concat({ ... }, " "))
end

local function switch(what, url, sound)
  io.stdout:flush()
  local ok = os.execute("$FAKE_SWITCH " .. what .. " '" .. url .. "' '" .. (sound or "") .. "'")
  if not ok then
    note("failed", what, url)
  end
end

local function digit()
  pressed = pressed + 1
  local d = digits:sub(pressed, pressed)
  if d == "h" or d == "" then
    gone = true
    return ""
  end
  return d == "-" and "" or d
end

session = {}
function session:answer() note("answer") end
function session:ready() return not gone end
function session:hangup(cause) note("hangup", cause) gone = true end
function session:getVariable(name) return vars[name] end
function session:setVariable(name, value) vars[name] = value note("set", name, value) end

function session:execute(app, data)
  local url = data:match("^%S+")
  if app == "playback" then
    if url:match("^shout://") then
      switch("play", url)
    else
      note("playback", url)
    end
    gone = gone or os.getenv("FAKE_GONE_AFTER_PLAY") ~= nil
  elseif app == "record" or app == "record_session" then
    if vars.enable_file_write_buffering ~= "false" then
      note("failed record: write buffering is on")
    end
    switch("record", url, table.remove(sounds, 1))
    if os.getenv("FAKE_GONE_AFTER_RECORD") then
      gone = true
    end
  else
    note("failed", app)
  end
end

function session:playAndGetDigits(min, max, tries, timeout, terminators, file, bad, valid)
  if file:match("^shout://") then
    switch("play", file)
  else
    note("playback", file)
  end
  local d = digit()
  note("digit", d)
  return d
end

freeswitch = { consoleLog = function(level, text) note("log", level, text) end }

local script = table.remove(arg, 1)
argv = arg
dofile(script)
