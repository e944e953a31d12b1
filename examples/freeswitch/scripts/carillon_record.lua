-- <action application="lua" data="carillon_record.lua ACCOUNT [SECONDS]"/>
-- records this call, both sides, until it ends, and stores it as
-- calls/UUID.mp3 of the account: the node does that when the source leaves, so
-- nothing is left to do when the call is gone. The recording's id is in the
-- channel variable carillon_recording_id.

local carillon = require("carillon")

carillon.setup(session)
local account, seconds = argv[1], tonumber(argv[2]) or 10800
local uuid = session:getVariable("uuid")
local ticket, status = carillon.ticket({
  account = account, name = "calls/" .. uuid .. ".mp3", store_as = "calls/" .. uuid .. ".mp3",
  max_seconds = seconds,
  metadata = {
    call_id = uuid,
    from = session:getVariable("caller_id_number") or "",
    to = session:getVariable("destination_number") or "",
  },
})
if ticket then
  -- Without this the first 4 seconds come late, and a shorter call is lost.
  session:setVariable("enable_file_write_buffering", "false")
  session:setVariable("RECORD_STEREO", "true")
  session:setVariable("carillon_recording_id", ticket.id)
  session:execute("record_session", ticket.record .. " +" .. seconds)
else
  freeswitch.consoleLog("err", "carillon: no ticket, status " .. status .. "\n")
end
