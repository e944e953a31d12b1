-- <action application="lua" data="carillon_play.lua ACCOUNT NAME"/>
-- plays a media name by the rules of the lookup: an item, a prompt
-- (prompt://ACCOUNT/PROMPT/LANGUAGE), a recording that is being made.
-- Where nothing is found it plays nothing, and the call goes on.

local carillon = require("carillon")

session:answer()
carillon.setup(session)
local file = carillon.lookup(argv[1], argv[2])
if file then
  session:execute("playback", file)
else
  freeswitch.consoleLog("warning", "carillon: nothing to play as " .. argv[1] .. "/" .. argv[2] .. "\n")
end
