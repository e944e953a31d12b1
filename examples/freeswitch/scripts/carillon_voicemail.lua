-- <action application="lua" data="carillon_voicemail.lua ACCOUNT BOX"/>
-- leaves a message: greeting, beep, record, review (1 listen, 2 keep, 3 again),
-- store. What the caller hears in the review is what the node has, under the
-- message's own name, from whichever node is asked. Who hangs up has left a
-- message; one shorter than min_ms is dropped by the node.

local carillon = require("carillon")

local account, box = argv[1], argv[2]
local min_ms, max_seconds, rounds = 500, 500, 4

session:answer()
carillon.setup(session)
session:setVariable("enable_file_write_buffering", "false")
session:setVariable("playback_terminators", "any")

local function play(name)
  local file = carillon.lookup(account, name)
  if file and session:ready() then
    session:execute("playback", file)
  end
end

-- keep stores the message, as often as it takes while the cluster has a bad
-- moment: the sound itself is safe already.
local function keep(id, name)
  for _ = 1, 5 do
    local ok, status = carillon.store(id, {
      account = account, id = name, description = "Message for mailbox " .. box, class = "voicemail",
      metadata = { box = box, from = session:getVariable("caller_id_number") or "" },
    })
    if ok or status == 404 or status == 409 then
      return ok
    end
    os.execute("sleep 1")
  end
  freeswitch.consoleLog("err", "carillon: message " .. id .. " is not stored yet\n")
  return false
end

play("vm/" .. box .. "/greeting")
if not session:ready() then
  return -- who hangs up during the greeting needs no ticket
end
local name = "vm/" .. box .. "/" .. session:getVariable("uuid") .. ".mp3"
local ticket, status = carillon.ticket({
  account = account, name = name, min_ms = min_ms, max_seconds = max_seconds,
})
if not ticket then
  freeswitch.consoleLog("err", "carillon: no ticket, status " .. status .. "\n")
  session:hangup("NORMAL_TEMPORARY_FAILURE")
  return
end

local id, fresh = ticket.id, true
while true do
  if fresh and session:ready() then
    session:execute("playback", "tone_stream://%(500,0,440)")
    -- limit, silence threshold, silence hits: five seconds of silence end it.
    session:execute("record", ticket.record .. " " .. max_seconds .. " 200 5")
    local state = carillon.settled(ticket.id)
    if state == "sealed" or state == "truncated" then
      id = ticket.id
    elseif not session:ready() then
      break -- too short, or nothing: an earlier take may be there
    end
    fresh = false
  end
  if not session:ready() then
    break
  end
  local digit = ""
  for _ = 1, rounds do
    digit = session:playAndGetDigits(1, 1, 1, 5000, "", carillon.lookup(account, "prompt://" .. account ..
      "/vm-review_recording") or "silence_stream://500", "", "[123]")
    if digit ~= "" or not session:ready() then
      break
    end
  end
  if digit == "1" then
    session:execute("playback", ticket.play)
  elseif digit == "3" then
    local again = carillon.rerecord(id)
    if again then
      ticket, fresh = again, true
    end
  else
    break -- 2, nothing, or gone: kept
  end
end

if keep(id, name) then
  play("prompt://" .. account .. "/vm-saved")
end
