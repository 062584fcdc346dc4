import type { Random } from './random.ts';

const ADJECTIVES =
  'able amber bold brave brisk calm candid clear clever cosy crisp deft eager early even fair fleet fond frank fresh ' +
  'gentle glad golden grand green happy hardy honest humble jolly keen kind level lively loyal lucid mellow merry ' +
  'mild modest neat nimble noble patient plain plucky polite proud prompt quick quiet ready rosy sage serene sharp ' +
  'silent simple sleek smart snug solid spry stable steady still sunny sure swift tidy true vivid warm wise witty';

/** People who worked on the sea, its life and its maps. */
const SURNAMES =
  'agassiz anning atwater baird barents beaufort bering bigelow blackwell bowditch broekhuysen carson clark coriolis ' +
  'cousteau cuvier dana darwin deacon dittmar earle ekman forbes franklin gesner giunta haeckel hardy heezen hensen ' +
  'hess humboldt huxley jeffreys kelvin kuenen linnaeus lovell lyman magellan marsili maury mawson mercator munk ' +
  'murray nansen nordenskjold payne penck petersson piccard rennell ricketts rondelet ross sars saville scoresby ' +
  'stommel sverdrup tharp thomson torell vine wallace wegener wilkes willughby worzel wust zenkevich';

const ADJECTIVE_LIST = ADJECTIVES.split(' ');
const SURNAME_LIST = SURNAMES.split(' ');
const PLAIN_ATTEMPTS_MAX = 8;

/** A made-up name `adjective_surname`, with a digit when many are taken already. */
export function makeName(random: Random, taken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const adjective = ADJECTIVE_LIST[random.int(ADJECTIVE_LIST.length)] as string;
    const surname = SURNAME_LIST[random.int(SURNAME_LIST.length)] as string;
    const suffix = attempt < PLAIN_ATTEMPTS_MAX ? '' : String(random.int(10 ** Math.min(9, attempt)));
    const name = `${adjective}_${surname}${suffix}`;
    if (!taken(name)) return name;
  }
}
